//! Which special tokens stand around a text, and around two texts that are judged together.

/// What stands at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Token(u32),
    /// The text, or the first of two.
    A,
    /// The second text.
    B,
}

/// One place: what stands there, and its token type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) slot: Slot,
    pub(crate) kind: u32,
}

/// The frames. `single` has one `A`; `pair` one `A` and one `B`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) single: Vec<Part>,
    pub(crate) pair: Vec<Part>,
}

impl Template {
    /// A frame of these tokens: `open` before a text, `close` after it, `close` and `between` after the first of two. The
    /// second text and what closes it are of type `second`.
    pub(crate) fn new(open: Option<u32>, between: Option<u32>, close: Option<u32>, second: u32) -> Self {
        let part = |kind: u32| move |slot: Slot| Part { slot, kind };
        let token = |id: Option<u32>| id.map(Slot::Token).into_iter();
        let single: Vec<Part> = token(open).chain([Slot::A]).chain(token(close)).map(part(0)).collect();
        let tail = [Slot::B].into_iter().chain(token(close)).map(part(second));
        let pair = single.iter().copied().chain(token(between).map(part(0))).chain(tail).collect();
        Self { single, pair }
    }

    /// The frame that names and flags of a vocabulary mean: BERT's, whose second text is of another type, or one that ends
    /// a text with `eos` and parts two by `sep`, or with `sep` where there is no other.
    pub(crate) fn usual(is_bert: bool, bos: Option<u32>, sep: Option<u32>, eos: Option<u32>) -> Self {
        match (is_bert, eos) {
            (true, _) => Self::new(bos, None, sep, 1),
            (false, Some(_)) => Self::new(bos, sep, eos, 0),
            (false, None) => Self::new(bos, None, sep, 0),
        }
    }

    /// No tokens at all.
    pub(crate) fn bare() -> Self {
        Self::new(None, None, None, 1)
    }

    /// The tokens before a text.
    pub(crate) fn opening(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().map_while(|part| match part.slot {
            Slot::Token(id) => Some(id),
            Slot::A | Slot::B => None,
        })
    }

    /// The tokens after a text.
    pub(crate) fn closing(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().skip(self.opening().count()).filter_map(|part| match part.slot {
            Slot::Token(id) => Some(id),
            Slot::A | Slot::B => None,
        })
    }

    /// Every token in it.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().chain(&self.pair).filter_map(|part| match part.slot {
            Slot::Token(id) => Some(id),
            Slot::A | Slot::B => None,
        })
    }
}
