//! `whit create`, `cp`, and what `show` says of models that were made; `ps` and `stop` of a server that runs.

use std::fs;
use std::path::Path;

use crate::batch::Served;
use crate::common::{Golden, rewrite, run_in};

/// A Modelfile in a folder, and what `whit create` makes of it.
fn create(home: &Path, name: &str, modelfile: &str) -> crate::common::Run {
    let file = home.join(format!("{name}.Modelfile"));
    fs::write(&file, modelfile).expect("a file");
    run_in(home, &["create", name, "-f", &file.display().to_string()], None)
}

#[test]
fn a_created_model_answers_with_all_that_it_has() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    // The prompt in four parts, put together by the template: system, two messages that the model brings, the user.
    let prompt = golden.prompt_text();
    let [system, first, second, user] = [&prompt[..5], &prompt[5..9], &prompt[9..14], &prompt[14..]];
    rewrite("qwen2-gqa7", &home.join("base.gguf"), |_| {});
    let modelfile = format!(
        "FROM ./base.gguf\nSYSTEM \"\"\"{system}\"\"\"\nMESSAGE user \"\"\"{first}\"\"\"\nMESSAGE assistant \"\"\"{second}\"\"\"\n\
         PARAMETER temperature 0\nPARAMETER num_predict 24\nLICENSE MIT\n\
         TEMPLATE {{% for message in messages %}}{{{{ message.content }}}}{{% endfor %}}\n"
    );
    let created = create(home, "golden", &modelfile);
    assert!(created.stderr.contains("whit run golden"), "{}", created.stderr);
    assert_eq!(created.ok(), "");
    let show = |name: &str, part: &str| run_in(home, &["show", name, part], None).ok();
    let got = run_in(home, &["run", "golden", "--", user], None);
    assert_eq!(got.stderr, "");
    assert_eq!(got.ok(), golden.answer() + "\n");
    // The command line comes first.
    let short = run_in(home, &["run", "golden", "--max-tokens", "3", "--", user], None).ok();
    assert_eq!(short, golden.answer()[..3].to_owned() + "\n");

    assert_eq!(show("golden", "--system"), format!("{system}\n"));
    assert_eq!(show("golden", "--license"), "MIT\n");
    assert_eq!(
        show("golden", "--parameters"),
        format!("{:<30} 0\n{:<30} 24\n", "temperature", "num_predict")
    );
    assert_eq!(
        show("golden", "--template"),
        "{% for message in messages %}{{ message.content }}{% endfor %}\n"
    );
    // What is shown makes the same model again, and so does a copy; both of the same file.
    let shown = show("golden", "--modelfile");
    assert!(shown.starts_with(&format!("FROM {}\n", home.join("base.gguf").display())), "{shown}");
    create(home, "again", &shown).ok();
    run_in(home, &["cp", "GOLDEN:latest", "me/copy:1"], None).ok();
    for name in ["again", "me/copy:1"] {
        assert_eq!(show(name, "--modelfile"), shown, "{name}");
        assert_eq!(run_in(home, &["run", name, "--", user], None).ok(), golden.answer() + "\n", "{name}");
    }
    // From standard input, from one that was made: what is not said is inherited.
    let stdin = b"FROM golden\nPARAMETER num_predict 2\n";
    run_in(home, &["create", "shorter", "-f", "-"], Some(stdin)).ok();
    let shorter = run_in(home, &["run", "shorter", "--", user], None).ok();
    assert_eq!(shorter, golden.answer()[..2].to_owned() + "\n");

    let list = run_in(home, &["list"], None).ok();
    for name in ["again", "golden", "me/copy:1", "shorter"] {
        assert!(list.contains(&format!("\n{name} ")), "{name}: {list}");
    }
    run_in(home, &["rm", "golden", "again", "me/copy:1", "shorter"], None).ok();
    assert!(run_in(home, &["list"], None).stderr.contains("no models"), "all are gone");
    assert!(home.join("base.gguf").is_file(), "and the user's file is not");
}

#[test]
fn a_model_whose_weights_are_removed_is_not_there() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let carried = home.join("carried").display().to_string();
    run_in(home, &["export", &golden.path, &carried], None).ok();
    run_in(home, &["import", &carried], None).ok();
    create(home, "poet", "FROM qwen2-gqa7\nSYSTEM be brief\n").ok();
    let shown = run_in(home, &["show", "poet"], None).ok();
    for part in ["source", "qwen2-gqa7", "SHA-256", "be brief"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let removed = run_in(home, &["rm", "qwen2-gqa7"], None);
    assert!(removed.stderr.contains("note: poet is made from it"), "{}", removed.stderr);
    let got = run_in(home, &["run", "poet", "a"], None);
    assert!(got.code == Some(1) && got.stderr.contains("qwen2-gqa7"), "{}", got.stderr);
    assert!(!run_in(home, &["list"], None).ok().contains("poet"));
}

#[test]
fn a_folder_is_a_model_to_begin_with() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let model = home.join("model");
    run_in(home, &["convert", &golden.path, &model.display().to_string()], None).ok();
    create(home, "fold", "FROM ./model\nPARAMETER temperature 0\nPARAMETER num_predict 24\n").ok();
    let prompt = golden.prompt_text();
    assert_eq!(run_in(home, &["run", "--raw", "fold", "--", &prompt], None).ok(), golden.answer() + "\n");
    // As large as what is in it: 16 thousand parameters of four bytes, and some.
    let list = run_in(home, &["list"], None).ok();
    let size =
        list.lines().find(|line| line.starts_with("fold ")).and_then(|line| line.split_whitespace().nth(1));
    assert!(size.and_then(|size| size.parse::<f64>().ok()).is_some_and(|size| size > 65.0), "{list}");
}

#[test]
fn mistakes_in_a_modelfile_are_told() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let from = format!("FROM {}\n", golden.path);
    for (rest, code, parts) in [
        ("PARAMETER temprature 1", 2, &[":2: there is no parameter `temprature`"][..]),
        ("PARAMETER temperature hot", 2, &[":2: PARAMETER temperature hot", "float32"]),
        ("\nPARAMETER top_p 2", 2, &[":3: PARAMETER top_p 2", "top_p"]),
        ("ADAPTER ./a.gguf", 2, &[":2: ADAPTER cannot be used yet"]),
        ("SYSTEM \"\"\"open", 2, &[":2: its quotes are never closed"]),
        ("TEMPLATE {% for %}", 1, &["chat template is broken"]),
    ] {
        let got = create(home, "x", &format!("{from}{rest}\n"));
        assert_eq!(got.code, Some(code), "{rest}: {}", got.stderr);
        for part in parts {
            assert!(got.stderr.contains(part), "{rest}: {}", got.stderr);
        }
    }
    for (name, modelfile, part) in [
        ("x", "FROM ./nothing.gguf\n", "nothing.gguf: there is no such file"),
        ("x", "FROM smolm2\n", "did you mean `smollm2:"),
        ("x", "SYSTEM a\n", "no line says FROM"),
        ("hf:x", &*from, "it is a place"),
        ("-x", &*from, "unexpected argument"),
    ] {
        let file = home.join("Modelfile");
        fs::write(&file, modelfile).expect("a file");
        let got = run_in(home, &["create", name, "-f", &file.display().to_string()], None);
        assert!(got.code != Some(0) && got.stderr.contains(part), "{modelfile}: {}", got.stderr);
    }
    assert!(run_in(home, &["create", "x"], None).stderr.contains("Modelfile"), "none is there");
    // What is kept but not used is told.
    let go = create(home, "go", &format!("{from}TEMPLATE {{{{ .Prompt }}}}\nREQUIRES 0.14.0\n"));
    assert!(go.stderr.contains("language of Go") && go.stderr.contains("line 3: REQUIRES"), "{}", go.stderr);
    let shown = run_in(home, &["show", "go", "--modelfile"], None).ok();
    assert!(shown.ends_with("TEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n"), "{shown}");
}

#[test]
fn a_running_server_is_asked() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let served = Served::start(home.path());
    let ask = |arguments: &[&str]| {
        let host = ["--host", served.address()];
        run_in(home.path(), &[arguments, &host].concat(), None)
    };
    assert!(ask(&["ps"]).stderr.contains("no model is loaded"));
    served.load("tiny");
    let listed = ask(&["ps"]).ok();
    assert!(
        listed.starts_with("NAME ") && listed.contains("\ntiny ") && listed.contains(" 256 "),
        "{listed}"
    );
    ask(&["stop", "tiny"]).ok();
    assert!(ask(&["ps"]).stderr.contains("no model is loaded"));
    let unknown = ask(&["stop", "none"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("none"), "{}", unknown.stderr);
    // Nobody listens on a port that was just free.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let got = run_in(home.path(), &["ps", "--host", &free.to_string()], None);
    assert!(got.code == Some(1) && got.stderr.contains("hint: `whit serve` starts one"), "{}", got.stderr);
}
