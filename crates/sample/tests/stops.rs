//! Stop strings: a table, and equality with a search over the whole text however it is cut.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use whit_sample::{SampleError, StopMatcher, StopStatus};

/// The text before the stop string that is complete first, and which; the longest of several.
fn search_whole(text: &str, stops: &[String]) -> (String, Option<usize>) {
    for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
        let mut best: Option<usize> = None;
        for (index, stop) in stops.iter().enumerate() {
            if text[..end].ends_with(stop.as_str()) && best.is_none_or(|best| stop.len() > stops[best].len())
            {
                best = Some(index);
            }
        }
        if let Some(index) = best {
            return (text[..end - stops[index].len()].to_owned(), Some(index));
        }
    }
    (text.to_owned(), None)
}

/// The text released piece by piece, and the stop string that ended it.
fn run(stops: &[String], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
    let mut matcher = StopMatcher::new(stops).unwrap();
    let mut released = Vec::new();
    let mut stopped = None;
    for piece in pieces {
        let mut out = String::new();
        if let StopStatus::Stopped(index) = matcher.push(piece, &mut out) {
            stopped = Some(index);
        }
        released.push(out);
    }
    let mut out = String::new();
    matcher.finish(&mut out);
    released.push(out);
    (released, stopped)
}

#[test]
fn pieces() {
    // (stop strings, pieces, what each piece releases and then the end, which stop)
    type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], Option<usize>);
    let cases: &[Case] = &[
        (&[], &["a", "b"], &["a", "b", ""], None),
        (&["END"], &["the E", "N", "D of it", "more"], &["the ", "", "", "", ""], Some(0)),
        (&["END"], &["the E", "NT", "E"], &["the ", "ENT", "", "E"], None),
        (&["\n\n"], &["a\n", "b\n", "\n"], &["a", "\nb", "", ""], Some(0)),
        // What follows a false start may start again inside it.
        (&["aab"], &["aa", "ab", "x"], &["", "a", "", ""], Some(0)),
        (&["abab"], &["aba", "abab"], &["", "aba", ""], Some(0)),
        // The first to be complete wins, and at the same byte the longest.
        (&["abcd", "bc"], &["abcd"], &["a", ""], Some(1)),
        (&["c", "abc"], &["xabc"], &["x", ""], Some(1)),
        (&["</s>", "User:"], &["hi</", "sUser", ":"], &["hi", "</s", "", ""], Some(1)),
        // Two and four bytes to a character, and two characters that begin alike.
        (&["é!"], &["caf", "é", "è", "é", "!"], &["caf", "", "éè", "", "", ""], Some(0)),
        (&["🙂🙃"], &["🙂", "🙂", "🙃"], &["", "🙂", "", ""], Some(0)),
    ];
    for (stops, pieces, expected, stop) in cases {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let (released, stopped) = run(&stops, pieces);
        assert_eq!(
            (released, stopped),
            (expected.iter().map(|&s| s.to_owned()).collect(), *stop),
            "{stops:?}"
        );
    }
}

#[test]
fn empty_stop_strings() {
    assert_eq!(StopMatcher::new(["a", ""]).unwrap_err(), SampleError::EmptyStop { index: 1 });
}

#[test]
fn finish_begins_anew() {
    let mut matcher = StopMatcher::new(["stop"]).unwrap();
    let mut out = String::new();
    assert_eq!(matcher.push("a stop b", &mut out), StopStatus::Stopped(0));
    assert_eq!(matcher.push("c", &mut out), StopStatus::Stopped(0));
    matcher.finish(&mut out);
    assert_eq!(matcher.push("c st", &mut out), StopStatus::Continue);
    matcher.finish(&mut out);
    assert_eq!(out, "a c st");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn equals_whole_search(
        text in "[abé🙂]{0,40}",
        stops in prop::collection::vec("[abé🙂]{1,5}", 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| places[cut.index(places.len())]).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let (released, stopped) = run(&stops, &pieces);
        prop_assert_eq!((released.concat(), stopped), search_whole(&text, &stops));
        // What is held back is the longest open start of a stop string, no more.
        if stopped.is_none() {
            let (mut sent, mut n_released) = (String::new(), 0);
            for (piece, out) in pieces.iter().zip(&released) {
                sent.push_str(piece);
                n_released += out.len();
                let starts = stops.iter().flat_map(|stop| stop.char_indices().map(|(at, _)| &stop[..at]));
                let open = starts.filter(|start| sent.ends_with(start)).map(str::len).max().unwrap_or(0);
                prop_assert_eq!(n_released + open, sent.len());
            }
        }
    }
}
