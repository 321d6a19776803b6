//! Which file of a repository is meant: by its path, by its quantization, or the usual one. A model that is split into
//! several files is all of them. A repository without a GGUF file may be a model folder, which is used as one.

/// The quantizations taken when none is named, best first: what most people run.
const USUAL: [&str; 8] = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16"];

/// What a model folder may have beside its weights that is of use.
const BESIDE: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
];
/// The index of weights in several files.
const INDEX: &str = "model.safetensors.index.json";

/// The files that a model is made of.
#[derive(Debug, PartialEq)]
pub(super) enum Choice<'a> {
    /// A GGUF file, or all that it is split into, in order.
    Gguf(Vec<&'a str>),
    /// A model folder: weights, and what tells of them.
    Folder(Vec<&'a str>),
}

impl<'a> Choice<'a> {
    pub(super) fn files(&self) -> &[&'a str] {
        match self {
            Choice::Gguf(files) | Choice::Folder(files) => files,
        }
    }
}

/// What `which` means in a repository with these files.
pub(super) fn choose<'a>(paths: &[&'a str], which: Option<&str>) -> Result<Choice<'a>, String> {
    match (gguf(paths, which), which) {
        (Err(problem), None) => folder(paths).map(Choice::Folder).ok_or(problem),
        (chosen, _) => chosen.map(Choice::Gguf),
    }
}

/// The files of a model folder, if these are one and it is whole.
fn folder<'a>(paths: &[&'a str]) -> Option<Vec<&'a str>> {
    let find = |name: &str| paths.iter().copied().find(|path| *path == name);
    find("config.json")?;
    let mut files: Vec<&str> = BESIDE.iter().filter_map(|name| find(name)).collect();
    if let Some(single) = find("model.safetensors") {
        files.push(single);
        return Some(files);
    }
    files.push(find(INDEX)?);
    let mut shards: Vec<(&str, usize)> =
        paths.iter().filter_map(|path| Some((*path, shard(path)?))).collect();
    shards.sort_unstable();
    let n = shards.first()?.1;
    if shards.len() != n || shards.iter().any(|(_, of)| *of != n) {
        return None;
    }
    files.extend(shards.iter().map(|(path, _)| path));
    Some(files)
}

/// `model-00001-of-00003.safetensors` is one of 3.
fn shard(path: &str) -> Option<usize> {
    let (i, n) = path.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(i) && is_number(n)).then(|| n.parse().ok())?
}

/// The files of the GGUF model that `which` means, in order.
fn gguf<'a>(paths: &[&'a str], which: Option<&str>) -> Result<Vec<&'a str>, String> {
    let is_model = |path: &&&str| {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        // Projectors of vision models and calibration data end in .gguf, too.
        name.ends_with(".gguf") && !name.starts_with("mmproj") && !name.contains("imatrix")
    };
    let models: Vec<&str> = paths.iter().filter(is_model).copied().collect();
    // A split model is named by its first file.
    let mut firsts: Vec<&str> =
        models.iter().copied().filter(|path| split(path).is_none_or(|(_, n, _)| n == 1)).collect();
    firsts.sort_unstable();
    let found: Vec<&str> = match which {
        Some(path) if path.to_ascii_lowercase().ends_with(".gguf") => {
            firsts.iter().copied().filter(|first| *first == path).collect()
        }
        Some(kind) => firsts.iter().copied().filter(|first| is_of(first, kind)).collect(),
        None if firsts.len() == 1 => firsts.clone(),
        None => {
            let usual = USUAL.iter().find_map(|kind| firsts.iter().copied().find(|first| is_of(first, kind)));
            usual.into_iter().collect()
        }
    };
    let list = || firsts.iter().map(|first| format!("`{first}`")).collect::<Vec<_>>().join(", ");
    let first = match found.as_slice() {
        [one] => *one,
        [] if firsts.is_empty() => {
            return Err("it holds no GGUF file, and no whole model as safetensors".to_owned());
        }
        [] => return Err(format!("it has no such file; add `:` and one of {}", list())),
        several => {
            let list = several.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            return Err(format!("more than one file fits; add `:` and one of {list}"));
        }
    };
    let Some((stem, _, n_parts)) = split(first) else { return Ok(vec![first]) };
    let mut parts: Vec<&str> = models
        .iter()
        .copied()
        .filter(|path| split(path).is_some_and(|(s, _, n)| s == stem && n == n_parts))
        .collect();
    parts.sort_unstable();
    if parts.len() != n_parts {
        return Err(format!("{} of the {n_parts} files of `{first}` are there", parts.len()));
    }
    Ok(parts)
}

/// `stem-00001-of-00003.gguf` as (`stem`, 1, 3).
pub(crate) fn split(path: &str) -> Option<(&str, usize, usize)> {
    let rest = path.strip_suffix(".gguf")?;
    let (rest, n) = rest.rsplit_once("-of-")?;
    let (stem, i) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse().ok())?;
    Some((stem, number(i)?, number(n)?))
}

/// Whether a path names this quantization, as a word of its own.
fn is_of(path: &str, kind: &str) -> bool {
    let (path, kind) = (path.to_ascii_uppercase(), kind.to_ascii_uppercase());
    path.match_indices(&kind).any(|(at, _)| {
        let is_border = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
        is_border(path[..at].chars().next_back()) && is_border(path[at + kind.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen() {
        let repo = [
            "README.md",
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m-q8_0.gguf",
            "mmproj-m-f16.gguf",
            "m.imatrix.gguf",
            "big/m-F32-00001-of-00002.gguf",
            "big/m-F32-00002-of-00002.gguf",
            "m-IQ4_XS-00001-of-00002.gguf",
        ];
        let check =
            |paths: &[&str], which, expected: Result<&[&str], &str>| match (choose(paths, which), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.files(), expected, "{which:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{which:?}: {got}"),
                (got, expected) => panic!("{which:?}: {got:?}, not {expected:?}"),
            };
        check(&repo, None, Ok(&["m-Q4_K_M.gguf"]));
        check(&repo, Some("Q4_K_S"), Ok(&["m-Q4_K_S.gguf"]));
        check(&repo, Some("Q8_0"), Ok(&["m-q8_0.gguf"]));
        check(&repo, Some("F32"), Ok(&["big/m-F32-00001-of-00002.gguf", "big/m-F32-00002-of-00002.gguf"]));
        check(&repo, Some("m-q8_0.gguf"), Ok(&["m-q8_0.gguf"]));
        check(&repo, Some("Q4_K"), Err("it has no such file; add `:` and one of"));
        check(&repo, Some("other.gguf"), Err("it has no such file"));
        check(&repo, Some("IQ4_XS"), Err("1 of the 2 files"));
        check(&["a.gguf"], None, Ok(&["a.gguf"]));
        check(&["a.gguf", "b.gguf"], None, Err("add `:` and one of `a.gguf`, `b.gguf`"));
        check(&["a-Q4_0.gguf", "b-Q4_0.gguf"], Some("q4_0"), Err("more than one file fits"));
        check(&["model.safetensors"], None, Err("it holds no GGUF file"));
        let single =
            ["a.bin", "config.json", "model.safetensors", "onnx/model.safetensors", "tokenizer.json"];
        check(&single, None, Ok(&["config.json", "tokenizer.json", "model.safetensors"]));
        check(&single, Some("Q4_0"), Err("it holds no GGUF file"));
        check(&["config.json", "m-Q4_0.gguf", "model.safetensors"], None, Ok(&["m-Q4_0.gguf"]));
        let [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        check(&[two, INDEX, one, "config.json"], None, Ok(&["config.json", INDEX, one, two]));
        check(&[two, INDEX, "config.json"], None, Err("no whole model as safetensors"));
        check(&[one, two, "config.json"], None, Err("no whole model as safetensors"));
    }
}
