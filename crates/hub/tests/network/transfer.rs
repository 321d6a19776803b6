//! Exports and imports.

use whit_hub::{Extras, HubError};

use crate::common::{Home, model};
use crate::registry::FakeRegistry;

#[test]
fn a_model_travels_in_a_folder() {
    let registry = FakeRegistry::new();
    let bytes = model(3456);
    registry.add_model("me/tiny:1m", &[("model", &bytes), ("system", b"be brief")]);
    let from = Home::new(&[registry.server.url()]);
    let name = format!("oci:{}/me/tiny:1m", registry.server.host()).parse().unwrap();
    let first = from.store().pull(&name, &mut |_| {}).unwrap();
    let folder = from.folder.path().join("stick/model");
    let exported = from.store().export(&name, &folder, &mut |_| {}).unwrap();
    assert_eq!(exported.name, name.to_string());

    let mut to = Home::new(&[]);
    to.config.network.offline = true;
    for _ in 0..2 {
        let imported = to.store().import(&folder, &mut |_| {}).unwrap();
        assert!(std::fs::read(&imported.path).unwrap() == bytes);
        let manifest = imported.manifest.unwrap();
        assert_eq!(manifest, first.manifest.clone().unwrap());
        assert_eq!(manifest.extras, Extras { system: Some("be brief".to_owned()), ..Extras::default() });
        assert_eq!(to.store().resolve(&name).unwrap().unwrap().path, imported.path);
    }
    // A folder in use is not written into.
    let error = from.store().export(&name, &folder, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");

    // A file of the user's gets a name of its own.
    let own = from.file("My Model (v1).gguf", &bytes);
    let folder = from.folder.path().join("own");
    from.store().export(&own.to_str().unwrap().parse().unwrap(), &folder, &mut |_| {}).unwrap();
    assert_eq!(to.store().import(&folder, &mut |_| {}).unwrap().name, "my-model--v1");
    assert!(to.store().resolve(&"my-model--v1".parse().unwrap()).unwrap().is_some());
}

#[test]
fn a_folder_that_is_not_right_is_refused() {
    let home = Home::new(&[]);
    let own = home.file("own.gguf", &model(2000));
    let folder = home.folder.path().join("out");
    let error = home.store().import(&folder, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("there is no manifest.json in it"), "{error}");

    home.store().export(&own.to_str().unwrap().parse().unwrap(), &folder, &mut |_| {}).unwrap();
    let manifest = folder.join("manifest.json");
    let sound = std::fs::read_to_string(&manifest).unwrap();
    for (from, to, expected) in [
        ("\"own\"", "\"../own\"", "which is no name"),
        ("\"own.gguf\"", "\"../own.gguf\"", "which is not a plain name"),
        ("\"sha256\": \"", "\"sha256\": \"0", "its manifest has no digest"),
        ("\"own\"", "\"smollm2:135m\"", "is not the one that the catalog knows"),
        ("\"size\": 2000", "\"size\": 1999", "wrong content"),
        ("\"size\": 2000", "\"size\": 2001", "cannot read"),
    ] {
        assert!(sound.contains(from), "{from} in {sound}");
        std::fs::write(&manifest, sound.replacen(from, to, 1)).unwrap();
        let error = home.store().import(&folder, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
    }
    std::fs::write(&manifest, sound).unwrap();
    std::fs::write(folder.join("own.gguf"), [&b"GGUF"[..], &[7; 1996]].concat()).unwrap();
    let error = home.store().import(&folder, &mut |_| {}).unwrap_err();
    assert!(matches!(error, HubError::WrongContent { .. }), "{error}");
    assert!(home.store().list().unwrap().is_empty());
}
