//! The chat, as its user has it: keys in, text out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Golden, rewrite, run_in};
use crate::terminal::Terminal;

/// The conversation as one text, so that answers can be compared with those of the reference.
const TEMPLATE: &str = "{% for message in messages %}{{ message.content }}{% endfor %}";

#[test]
fn a_chat_from_its_beginning_to_its_end() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let path = rewrite("qwen2-gqa7", &home.join("chatty.gguf"), |writer| {
        writer.set("tokenizer.chat_template", TEMPLATE);
    });
    let prompt = golden.prompt_text();
    let answer = golden.answer();
    let mut chat = Terminal::run(home, 100, &["run", &path, "--temperature", "0", "--max-tokens", "24"]);
    chat.until(">>> ");
    assert_eq!(chat.ask(&prompt), format!("{answer}\n\n"));
    // The same again is another conversation, unless the first is forgotten.
    assert_ne!(chat.ask(&prompt), format!("{answer}\n\n"));
    assert_eq!(chat.ask("/cle\t"), "forgotten\n");
    assert_eq!(chat.ask(&prompt), format!("{answer}\n\n"));
    assert!(chat.ask("/show history").starts_with(&format!("user: {prompt}\n\nassistant: {answer}")));

    // Of several lines, and put together with a system message.
    chat.ask("/clear");
    assert!(chat.ask(&format!("/set system {}", &prompt[..5])).contains("set"));
    chat.ask("/set parameter num_predict 3");
    assert_eq!(chat.ask(&prompt[5..]), format!("{}\n\n", &answer[..3]));
    assert!(chat.ask("/set parameter num_predict x").contains("must be of type integer"));
    assert!(chat.ask("/set parameter speed 1").contains("there is no parameter `speed`"));
    let shown = chat.ask("/show parameters");
    assert!(shown.contains("num_predict        3\n") && shown.contains("temperature        0\n"), "{shown}");
    assert!(chat.ask("/set parameter num_ctx 128").contains("num_ctx is 128"));
    assert!(chat.ask("/show parameters").contains("num_ctx            128\n"));
    assert!(chat.ask("/set think").contains("does not think"));
    assert!(chat.ask("/quti").contains("there is no command `/quti`"));
    assert!(chat.ask("/? shortcuts").contains("Ctrl-C"));

    // Kept by another name, loaded again: the conversation goes on.
    assert!(chat.ask("/save poet").contains("whit run poet"));
    let modelfile = chat.ask("/show modelfile");
    assert!(modelfile.contains("PARAMETER num_ctx 128\n"), "{modelfile}");
    chat.ask("/load poet");
    let shown = chat.until(">>> ");
    assert_eq!(shown.replace('\r', ""), format!("{}\n{}\n\n", &prompt[5..], &answer[..3]));
    assert!(chat.ask("/load nothing-here").contains("error: there is no model called `nothing-here`"));
    chat.press("\x04");
    assert_eq!(chat.end(), Some(0));

    let saved = run_in(home, &["show", "poet", "--modelfile"], None).ok();
    assert!(saved.contains(&format!("MESSAGE assistant {}\n", &answer[..3])), "{saved}");
    let history = home.join("history");
    assert_eq!(fs::metadata(&history).expect("a history").permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&history).expect("a history").contains("/save poet"));
    // A later chat remembers, unless it is told not to.
    let mut chat = Terminal::run(home, 100, &["run", "poet"]);
    chat.until("/help says");
    chat.until(">>> ");
    chat.until(">>> ");
    chat.press("\x1b[A\x1b[A");
    chat.until("/load poet");
    chat.press("\x03");
    chat.until(">>> ");
    chat.ask("/set nohistory");
    chat.ask("/show system");
    chat.press("/bye\r");
    assert_eq!(chat.end(), Some(0));
    assert!(!fs::read_to_string(&history).expect("a history").contains("/show system"));
}

#[test]
fn texts_of_several_lines_and_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let path = rewrite("qwen2-gqa7", &home.join("chatty.gguf"), |writer| {
        writer.set("tokenizer.chat_template", TEMPLATE);
    });
    fs::write(home.join("my notes.txt"), "one two").expect("a file");
    let mut chat = Terminal::run(home, 100, &["run", &path, "--max-tokens", "2"]);
    chat.until(">>> ");
    // All at once, as some terminals paste.
    chat.press("\"\"\"one\rtwo\"\"\"\r");
    chat.until("... ");
    chat.until(">>> ");
    assert!(chat.ask("/show history").starts_with("user: one\ntwo\n"));
    chat.ask("/clear");
    assert!(chat.ask("read @\"~/my n\t").contains("(with ~/my notes.txt, 7 B)"));
    let history = chat.ask("/show history");
    assert!(history.contains("~/my notes.txt:\n```\none two\n```"), "{history}");
    assert!(chat.ask("@~/none.txt").contains("error: there is no file `~/none.txt`\n\nhint: "));
    chat.press("/bye\r");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn long_lines_break_between_words() {
    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    // Six words of six letters do not fit into 30 columns.
    let arguments = ["--raw", "--regex", "([a-z]{6} ){5}[a-z]{6}", &golden.path, "a"];
    for (flag, n_lines) in [("--verbose", 2), ("--no-word-wrap", 1)] {
        let mut terminal = Terminal::run(home.path(), 30, &[&["run", flag], &arguments[..]].concat());
        let mut shown = String::new();
        while shown.matches(|c: char| c.is_ascii_lowercase()).count() < 36 || !shown.ends_with('\n') {
            shown = shown + &terminal.until("\n") + "\n";
            if shown.contains("context of") || shown.contains("load ") {
                shown.clear();
            }
        }
        assert_eq!(shown.lines().count(), n_lines, "{shown}");
        assert_eq!(terminal.end(), Some(0));
    }
}
