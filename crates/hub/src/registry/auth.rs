//! What a registry that says 401 wants: a bearer token from its realm, or a name and a password (RFC 7235, RFC 7617,
//! and Docker's token authentication, github.com/distribution/distribution, docs/spec/auth).
//!
//! A password goes to the origin that it was given for, and nowhere else: a realm on another host is asked with the
//! credentials of that host, or with none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{Method, Uri};

use crate::HubError;
use crate::http::{Authorization, Body, Client, Origin, Request, encode, join};
use crate::network::Credential;

/// The most bytes of a realm's answer.
const MAX_TOKEN: u64 = 64 << 10;

/// The answer to a challenge; `None` if nothing that we have would do.
pub(super) fn answer(
    client: &Client,
    registry: &Origin,
    challenges: &[String],
    scope: &str,
) -> Result<Option<Authorization>, HubError> {
    let to_registry = |value: String| Some(Authorization { origin: registry.clone(), value });
    for challenge in challenges {
        let Some((scheme, parameters)) = challenge.trim().split_once(' ') else { continue };
        let parameters = parse(parameters);
        let parameter =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if scheme.eq_ignore_ascii_case("bearer") {
            let realm = parameter("realm").unwrap_or_default();
            let token =
                token(client, registry, realm, parameter("service"), parameter("scope").unwrap_or(scope))?;
            return Ok(to_registry(format!("Bearer {token}")));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(client.network().credential(registry).and_then(|login| to_registry(basic(login))));
        }
    }
    Ok(None)
}

fn token(
    client: &Client,
    registry: &Origin,
    realm: &str,
    service: Option<&str>,
    scope: &str,
) -> Result<String, HubError> {
    let bad = |problem: String| HubError::BadAnswer { place: registry.to_string(), problem };
    let base: Uri = registry.to_string().parse().map_err(|_| bad("its name is no address".to_owned()))?;
    let url = join(&base, realm).filter(|_| !realm.is_empty());
    let url = url.ok_or_else(|| bad(format!("it sends us for a token to `{}`", realm.escape_debug())))?;
    let origin = Origin::of(&url)
        .ok_or_else(|| bad(format!("it sends us for a token to `{}`", realm.escape_debug())))?;
    let login = client.network().credential(&origin);

    let mut query = format!("scope={}", encode(scope));
    if let Some(service) = service {
        query = format!("service={}&{query}", encode(service));
    }
    let response = match login {
        // An identity token, as `docker login` leaves one: traded for an access token by OAuth 2.
        Some(Credential { user, password, .. }) if user.is_empty() => {
            let form = format!(
                "grant_type=refresh_token&refresh_token={}&client_id=whit&{query}",
                encode(&password.0)
            );
            let request = Request::new(Method::POST, url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::Bytes(form.as_bytes()));
            client.send(&request)?
        }
        login => {
            let joint = if url.query().is_some() { '&' } else { '?' };
            let url = join(&url, &format!("{url}{joint}{query}"))
                .ok_or_else(|| bad("it sends us for a token to what is no address".to_owned()))?;
            let authorization =
                login.map(|login| Authorization { origin: origin.clone(), value: basic(login) });
            client.send(&Request::get(url).authorization(authorization))?
        }
    };
    if !response.is_success() {
        return Err(response.failure("have a token"));
    }
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(&response.bytes(MAX_TOKEN)?)
        .map_err(|error| bad(format!("its token service does not answer with a token ({error})")))?;
    let token =
        answer.token.or(answer.access_token).filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
    token.ok_or_else(|| bad("its token service does not answer with a token".to_owned()))
}

fn basic(login: &Credential) -> String {
    format!("Basic {}", BASE64.encode(format!("{}:{}", login.user, login.password.0)))
}

/// `key="value", key=value`: names in lower case, backslashes undone.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([',', ' ', '\t']).to_ascii_lowercase();
        let mut value = String::new();
        rest = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut characters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, c)) = characters.next() {
                    match c {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => value.extend(characters.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                &quoted[end..]
            }
            None => {
                let (plain, rest) = after.split_once(',').unwrap_or((after, ""));
                value.push_str(plain.trim());
                rest
            }
        };
        found.push((key, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn challenges_parse() {
        for (text, expected) in [
            (
                r#"realm="https://auth.example/token",service="reg.example",scope="repository:a/b:pull,push""#,
                "realm=https://auth.example/token|service=reg.example|scope=repository:a/b:pull,push",
            ),
            (r#"Realm="a\"b", service=c , x="#, r#"realm=a"b|service=c|x="#),
            (r#"realm="open"#, "realm=open"),
            ("", ""),
            ("nothing", ""),
        ] {
            let got: Vec<String> =
                parse(text).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(got.join("|"), expected, "{text}");
        }
    }
}
