//! What the network may be used for, and with what: mirrors, hosts that are vouched for, credentials, proxy, patience.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::HubError;
use crate::http::Origin;

/// Ollama's own registry.
const OLLAMA: &str = "https://registry.ollama.ai";
/// The Hugging Face Hub.
const HUGGING_FACE: &str = "https://huggingface.co";
/// Where clients of registries keep credentials: the format is Docker's.
const CREDENTIALS: &str = "registries.json";
/// The most bytes of a credentials file.
const MAX_CREDENTIALS: u64 = 1 << 20;

/// Settings of the network. [`Network::default`] asks the public places directly, with no credentials.
#[derive(Clone, Debug)]
pub struct Network {
    /// Never use the network.
    pub offline: bool,
    /// The registry that `ollama:` names.
    pub ollama: String,
    /// The hub that `hf:` names.
    pub hugging_face: String,
    /// Origins that the user vouches for, `https://host:port` or, without encryption, `http://host:port`. They may be at
    /// addresses of private networks. What no list names must be at a public address, and encrypted.
    pub trusted: Vec<String>,
    /// Whether a host that a reference names is vouched for by being named: so on a command line, whose writer is the
    /// user, and not in a server, whose clients are not.
    pub trust_named: bool,
    /// For registries.
    pub credentials: Vec<Credential>,
    /// For the hub that `hf:` names, and no other place.
    pub hf_token: Option<Secret>,
    /// The address of a proxy: `http://user:password@host:port`.
    pub proxy: Option<String>,
    /// Hosts that are asked without the proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// A PEM file with certificates of authorities to trust in place of Mozilla's list.
    pub certificates: Option<PathBuf>,
    /// Bytes of a piece of a large transfer: what a broken connection may cost.
    pub piece: u64,
    /// How long to wait for an address and a connection.
    pub connect: Duration,
    /// How long a connection may be silent.
    pub stall: Duration,
    /// The wait before the second try; it doubles with each.
    pub backoff: Duration,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            offline: false,
            ollama: OLLAMA.to_owned(),
            hugging_face: HUGGING_FACE.to_owned(),
            trusted: Vec::new(),
            trust_named: false,
            credentials: Vec::new(),
            hf_token: None,
            proxy: None,
            no_proxy: None,
            certificates: None,
            piece: 8 << 20,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
        }
    }
}

/// A name and a password for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `host`, or `host:port` where the port is not the usual one.
    pub host: String,
    /// The name; with an empty one the password is an identity token.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Network {
    /// As the environment says:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `WHIT_OFFLINE` | anything but `0`: never use the network |
    /// | `WHIT_OLLAMA_REGISTRY` | the registry that `ollama:` names |
    /// | `WHIT_HF_ENDPOINT`, `HF_ENDPOINT` | the hub that `hf:` names |
    /// | `WHIT_REGISTRIES` | hosts that are vouched for, separated by commas: `reg.home:5000,http://127.0.0.1:5000` |
    /// | `WHIT_REGISTRY_AUTH` | `user:password@host`, several separated by spaces |
    /// | `HF_TOKEN`, `HF_TOKEN_PATH` | the token for the hub, or the file with it |
    /// | `HTTPS_PROXY`, `ALL_PROXY`, `HTTP_PROXY`, `NO_PROXY` | as everywhere |
    /// | `SSL_CERT_FILE` | a PEM file of authorities |
    ///
    /// Credentials for registries are also read from `registries.json` in `home` and from Docker's `config.json`
    /// (credential helpers are not run).
    pub fn from_env(home: &Path) -> Result<Network, HubError> {
        Network::from_variables(home, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Network, HubError> {
        let either = |names: &[&str]| names.iter().find_map(|name| variable(name));
        let user_home = || either(&["HOME", "USERPROFILE"]).map(PathBuf::from);
        let default = Network::default();
        let trusted = variable("WHIT_REGISTRIES").unwrap_or_default();
        let trusted: Vec<String> =
            trusted.split([',', ' ']).filter(|place| !place.is_empty()).map(with_scheme).collect();
        let mut credentials = Vec::new();
        for text in variable("WHIT_REGISTRY_AUTH").unwrap_or_default().split_whitespace() {
            let bad = || HubError::Setting {
                name: "WHIT_REGISTRY_AUTH".to_owned(),
                problem: "write `user:password@host`".to_owned(),
            };
            let (login, host) = text.rsplit_once('@').ok_or_else(bad)?;
            let (user, password) = login.split_once(':').ok_or_else(bad)?;
            credentials.push(Credential {
                host: host.to_owned(),
                user: user.to_owned(),
                password: Secret(password.to_owned()),
            });
        }
        let docker =
            variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(user_home()?.join(".docker")));
        let files = [Some(home.join(CREDENTIALS)), docker.map(|folder| folder.join("config.json"))];
        for file in files.into_iter().flatten() {
            credentials.extend(read_credentials(&file));
        }
        let hf_home = either(&["HF_HOME"]).map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            Some(cache.or_else(|| Some(user_home()?.join(".cache")))?.join("huggingface"))
        });
        let token_file =
            variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hf_home?.join("token")));
        let hf_token = either(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
            .or_else(|| read_small(&token_file?))
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let network = Network {
            offline: variable("WHIT_OFFLINE").is_some_and(|value| value != "0"),
            ollama: variable("WHIT_OLLAMA_REGISTRY").map_or(default.ollama, |place| with_scheme(&place)),
            hugging_face: either(&["WHIT_HF_ENDPOINT", "HF_ENDPOINT"])
                .map_or(default.hugging_face, |place| with_scheme(&place)),
            trusted,
            credentials,
            hf_token: hf_token.map(Secret),
            proxy: either(&[
                "HTTPS_PROXY",
                "https_proxy",
                "ALL_PROXY",
                "all_proxy",
                "HTTP_PROXY",
                "http_proxy",
            ]),
            no_proxy: either(&["NO_PROXY", "no_proxy"]),
            certificates: variable("SSL_CERT_FILE").map(PathBuf::from),
            ..Network::default()
        };
        let places = [("WHIT_OLLAMA_REGISTRY", &network.ollama), ("WHIT_HF_ENDPOINT", &network.hugging_face)];
        let listed = network.trusted.iter().map(|place| ("WHIT_REGISTRIES", place));
        for (name, place) in places.into_iter().chain(listed) {
            if Origin::parse(place).is_none() {
                let problem = format!("`{place}` is not an address such as https://host:port");
                return Err(HubError::Setting { name: name.to_owned(), problem });
            }
        }
        Ok(network)
    }

    /// The origins that are vouched for.
    pub(crate) fn trusted_origins(&self) -> impl Iterator<Item = Origin> {
        // The usual places count too: a private mirror of them is the user's own setting.
        [&self.ollama, &self.hugging_face]
            .into_iter()
            .chain(&self.trusted)
            .filter_map(|place| Origin::parse(place))
    }

    /// The credential for a host.
    pub(crate) fn credential(&self, origin: &Origin) -> Option<&Credential> {
        self.credentials.iter().find(|credential| origin.is_host(&credential.host))
    }
}

/// `host` as `https://host`.
fn with_scheme(place: &str) -> String {
    let place = place.trim_end_matches('/');
    if place.contains("://") { place.to_owned() } else { format!("https://{place}") }
}

/// A file of at most a megabyte; `None` where there is none.
fn read_small(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_CREDENTIALS);
    small.then(|| std::fs::read_to_string(path).ok())?
}

/// Docker's `config.json`: `{"auths": {"host": {"auth": base64("user:password")}}}`. What cannot be read is left out, as
/// it is by every client of that file.
fn read_credentials(path: &Path) -> Vec<Credential> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        auths: std::collections::BTreeMap<String, Auth>,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(default)]
        auth: String,
        identitytoken: Option<String>,
    }
    let Some(text) = read_small(path) else { return Vec::new() };
    let file: File = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "credentials cannot be read; they are left out");
            return Vec::new();
        }
    };
    let read = |(host, auth): (String, Auth)| {
        let host = host.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default().to_owned();
        if let Some(token) = auth.identitytoken {
            return Some(Credential { host, user: String::new(), password: Secret(token) });
        }
        let login = String::from_utf8(BASE64.decode(auth.auth.trim()).ok()?).ok()?;
        let (user, password) = login.trim_end_matches('\0').split_once(':')?;
        Some(Credential { host, user: user.to_owned(), password: Secret(password.to_owned()) })
    };
    file.auths.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(home: &Path, variables: &[(&str, &str)]) -> Result<Network, HubError> {
        Network::from_variables(home, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn settings_follow_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("a plain path");
        let plain = network(folder.path(), &[("HOME", home)]).expect("defaults");
        assert_eq!((plain.ollama.as_str(), plain.hugging_face.as_str()), (OLLAMA, HUGGING_FACE));
        assert!(!plain.offline && plain.credentials.is_empty() && plain.hf_token.is_none());

        std::fs::create_dir_all(folder.path().join(".cache/huggingface")).expect("a folder");
        std::fs::write(folder.path().join(".cache/huggingface/token"), "hf_file\n").expect("a file");
        std::fs::create_dir_all(folder.path().join(".docker")).expect("a folder");
        // base64("me:se:cret"), as `docker login` writes it.
        let docker = r#"{"auths": {"https://reg.example/v1/": {"auth": "bWU6c2U6Y3JldA=="}, "bad": {"auth": "%"},
                         "id.example": {"identitytoken": "idt"}}, "credsStore": "desktop"}"#;
        std::fs::write(folder.path().join(".docker/config.json"), docker).expect("a file");
        let set = network(
            folder.path(),
            &[
                ("HOME", home),
                ("WHIT_OFFLINE", "1"),
                ("WHIT_REGISTRIES", "reg.home:5000, http://127.0.0.1:5000/"),
                ("WHIT_REGISTRY_AUTH", "a:b@c@own.example:8443"),
                ("HF_ENDPOINT", "https://mirror.example/hf/"),
                ("HTTP_PROXY", "http://proxy:3128"),
            ],
        )
        .expect("settings");
        assert!(set.offline);
        assert_eq!(set.trusted, ["https://reg.home:5000", "http://127.0.0.1:5000"]);
        assert_eq!(set.hugging_face, "https://mirror.example/hf");
        assert_eq!(set.hf_token, Some(Secret("hf_file".to_owned())));
        assert_eq!(set.proxy.as_deref(), Some("http://proxy:3128"));
        let login = |host: &str, user: &str, password: &str| Credential {
            host: host.to_owned(),
            user: user.to_owned(),
            password: Secret(password.to_owned()),
        };
        assert_eq!(
            set.credentials,
            [
                login("own.example:8443", "a", "b@c"),
                login("reg.example", "me", "se:cret"),
                login("id.example", "", "idt")
            ]
        );
        assert!(!format!("{set:?}").contains("se:cret") && !format!("{set:?}").contains("hf_file"));

        for (name, value) in [
            ("WHIT_REGISTRIES", "ftp://x"),
            ("WHIT_REGISTRIES", "https://user@x"),
            ("WHIT_OLLAMA_REGISTRY", "https://"),
            ("WHIT_REGISTRY_AUTH", "nobody"),
        ] {
            assert!(
                matches!(network(folder.path(), &[(name, value)]), Err(HubError::Setting { .. })),
                "{name} {value}"
            );
        }
    }
}
