//! Fields of documents. What one has under another name or in another shape in some edition of its data set is read, too.

use serde_json::Value;

/// A text.
pub(super) fn text(document: &Value, name: &str) -> Result<String, String> {
    document[name].as_str().map(str::to_owned).ok_or_else(|| format!("it has no text `{name}`"))
}

/// A number, or digits that spell one.
pub(super) fn number(document: &Value, name: &str) -> Result<usize, String> {
    let value = &document[name];
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| format!("it has no number `{name}`"))
}

/// Texts.
pub(super) fn texts(document: &Value, name: &str) -> Result<Vec<String>, String> {
    let texts = document[name].as_array();
    let texts = texts.and_then(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| format!("it has no list of texts `{name}`"))
}

/// Choices with labels, as `{"text": [..], "label": [..]}` or as a list of objects; and the place of the one that
/// `answerKey` names.
pub(super) fn labelled_choices(document: &Value) -> Result<(Vec<String>, usize), String> {
    let question = if document["question"].is_object() { &document["question"] } else { document };
    let (choices, labels) = match &question["choices"] {
        Value::Array(list) => {
            let column =
                |name: &str| list.iter().map(|choice| text(choice, name)).collect::<Result<Vec<_>, _>>();
            (column("text")?, column("label")?)
        }
        columns => (texts(columns, "text")?, texts(columns, "label")?),
    };
    let key = text(document, "answerKey")?;
    let right = labels.iter().position(|label| label == key.trim_start());
    Ok((choices, right.ok_or_else(|| format!("no choice is labelled `{key}`"))?))
}

/// Checks that the right choice is one.
pub(super) fn among(choices: &[String], right: usize) -> Result<usize, String> {
    if right < choices.len() { Ok(right) } else { Err(format!("its answer {right} is none of its choices")) }
}
