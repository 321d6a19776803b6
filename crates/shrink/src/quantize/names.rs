//! Names of formats and mixes as people write them; of an unknown one, the nearest that there is.

use whit_base::DType;

/// A format by its name, in whatever case.
///
/// # Errors
/// What is no format, with the nearest name.
pub fn format_named(text: &str) -> Result<DType, String> {
    find(text, DType::ALL.into_iter().map(|format| (format.name(), format)))
}

/// What is called `text`, in whatever case and with `-` for `_`.
pub(super) fn find<T>(text: &str, known: impl Iterator<Item = (&'static str, T)>) -> Result<T, String> {
    let wanted = text.to_ascii_uppercase().replace('-', "_");
    let mut nearest = None;
    for (name, item) in known {
        let distance = distance(&wanted, name);
        if distance == 0 {
            return Ok(item);
        }
        if nearest.is_none_or(|(_, least)| distance < least) {
            nearest = Some((name, distance));
        }
    }
    let hint = nearest.map(|(name, _)| format!("; did you mean {}?", name.to_ascii_lowercase()));
    Err(format!("there is no format `{text}`{}", hint.unwrap_or_default()))
}

/// How many characters have to be added, removed or changed to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mix;

    #[test]
    fn names_are_found_or_the_nearest_is_said() {
        for (text, expected) in [
            ("q4_k_m", Ok(Mix::Q4_K_M)),
            ("Q4-K-M", Ok(Mix::Q4_K_M)),
            ("q4_k", Ok(Mix::Q4_K_M)),
            ("bf16", Ok(Mix::BF16)),
            ("q4_km", Err("did you mean q4_k_m?")),
            ("q9_0", Err("did you mean q8_0?")),
        ] {
            match (text.parse::<Mix>(), expected) {
                (got, Ok(expected)) => assert_eq!(got, Ok(expected), "{text}"),
                (got, Err(part)) => assert!(got.is_err_and(|said| said.ends_with(part)), "{text}"),
            }
        }
        assert_eq!(format_named("q6_k"), Ok(DType::Q6_K));
        assert!(format_named("q4_k_m").is_err_and(|said| said.ends_with("did you mean q4_k?")));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("A", "", 1), ("KITTEN", "SITTING", 3), ("Q4_KM", "Q4_K_M", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
