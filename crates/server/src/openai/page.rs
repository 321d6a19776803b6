//! Lists that are given a page at a time, as OpenAI gives them: the newest first unless asked otherwise, from after an id.

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// Which page is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PageQuery {
    /// The last id of the page before.
    after: Option<String>,
    /// Most objects of a page.
    limit: Option<usize>,
    /// By age: `desc` (the newest first) or `asc`.
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// A page.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Page<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl PageQuery {
    /// The page out of `ids`, the newest first. `read` gives an object, or nothing where it does not belong here or has
    /// gone. `limits`: how many objects when the query does not say, and at most.
    pub(crate) fn page<T>(
        &self,
        mut ids: Vec<String>,
        limits: (usize, usize),
        mut read: impl FnMut(&str) -> Result<Option<T>, ApiError>,
    ) -> Result<Page<T>, ApiError> {
        let (default, most) = limits;
        let limit = self.limit.unwrap_or(default);
        if !(1..=most).contains(&limit) {
            return Err(ApiError::BadRequest(format!("limit is {limit}, but must be from 1 to {most}")));
        }
        if self.order == Some(Order::Asc) {
            ids.reverse();
        }
        let begin = match &self.after {
            None => 0,
            Some(after) => match ids.iter().position(|id| id == after) {
                Some(at) => at + 1,
                None => {
                    return Err(ApiError::BadRequest(format!(
                        "after is `{after}`, which is not in the list"
                    )));
                }
            },
        };
        let mut page =
            Page { object: "list", data: Vec::new(), first_id: None, last_id: None, has_more: false };
        for id in ids.drain(begin..) {
            let Some(object) = read(&id)? else { continue };
            if page.data.len() == limit {
                page.has_more = true;
                break;
            }
            page.data.push(object);
            page.first_id.get_or_insert_with(|| id.clone());
            page.last_id = Some(id);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pages() {
        let ids = || ["d", "c", "b", "a"].map(str::to_owned).to_vec();
        for (query, expected) in [
            (r#"{}"#, Some((vec!["d", "c", "a"], false))),
            (r#"{"limit": 2}"#, Some((vec!["d", "c"], true))),
            (r#"{"limit": 3}"#, Some((vec!["d", "c", "a"], false))),
            (r#"{"after": "c"}"#, Some((vec!["a"], false))),
            (r#"{"after": "a"}"#, Some((vec![], false))),
            (r#"{"order": "asc", "limit": 1}"#, Some((vec!["a"], true))),
            (r#"{"order": "asc", "after": "c"}"#, Some((vec!["d"], false))),
            (r#"{"after": "x"}"#, None),
            (r#"{"limit": 0}"#, None),
            (r#"{"limit": 5}"#, None),
        ] {
            let wanted: PageQuery = serde_json::from_str(query).unwrap();
            // `b` does not belong here.
            let page = wanted.page(ids(), (4, 4), |id| Ok((id != "b").then(|| id.to_owned()))).ok();
            let expected = expected.map(|(data, has_more)| {
                let data: Vec<String> = data.into_iter().map(str::to_owned).collect();
                Page {
                    object: "list",
                    first_id: data.first().cloned(),
                    last_id: data.last().cloned(),
                    data,
                    has_more,
                }
            });
            assert_eq!(page, expected, "{query}");
        }
    }
}
