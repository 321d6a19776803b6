//! The paged key-value cache: which page of the backend's memory holds which tokens of which sequence.
//!
//! Layers that keep the same span of positions form a group with a page table of its own. Pages are shared between
//! sequences with the same beginning. The one rule that makes sharing safe: a page is written only while it has a
//! single owner. Full pages enter the tree of prefixes as they fill up; a partly filled one when its sequence ends. A new
//! sequence takes full pages over as they are, and copies the start of the first page that differs.
//!
//! A sliding-window group gives back the pages that have left the window. The tree may still hold them, until memory is
//! needed: what was used longest ago goes first.

mod pages;
mod prefix;
#[cfg(test)]
mod tests;

use whit_base::{NO_PAGE, PAGE_TOKENS};

use pages::PagePool;
use prefix::{NodeId, PrefixTree, ROOT};

/// Pages of all groups, and what they hold.
#[derive(Debug)]
pub(crate) struct KvCache {
    groups: Vec<Group>,
    tree: PrefixTree,
    /// Counts uses, for "used longest ago".
    clock: u64,
}

#[derive(Debug)]
struct Group {
    window: Option<usize>,
    pool: PagePool,
}

impl Group {
    /// The first position that the token at `position` can see.
    fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// The pages of one sequence. Must be given to [`KvCache::release`]; dropping it would lose its pages.
#[derive(Debug)]
pub(crate) struct SequenceCache {
    /// Per group, the page of each [`PAGE_TOKENS`] positions.
    tables: Vec<Vec<u32>>,
    /// Per group, how many pages at the front were given back.
    n_dropped: Vec<usize>,
    /// Positions whose keys and values are in the cache.
    len: usize,
    /// Whether its pages enter the tree of prefixes.
    shared: bool,
}

impl SequenceCache {
    /// Positions whose keys and values are in the cache.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One page table per group, for a [`Segment`](whit_base::Segment).
    pub(crate) fn tables(&self) -> Vec<&[u32]> {
        self.tables.iter().map(Vec::as_slice).collect()
    }
}

/// The first `n_tokens` of page `from` are to be copied onto page `to`, before anything else runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub(crate) group: usize,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) n_tokens: usize,
}

/// All pages are in use by live sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfPages;

impl KvCache {
    /// Empty; per group its window and its number of pages.
    pub(crate) fn new(groups: impl IntoIterator<Item = (Option<usize>, usize)>) -> KvCache {
        let group = |(window, n_pages)| Group { window, pool: PagePool::new(n_pages) };
        KvCache { groups: groups.into_iter().map(group).collect(), tree: PrefixTree::new(), clock: 0 }
    }

    /// A sequence with nothing cached, which keeps out of the tree of prefixes.
    pub(crate) fn start_alone(&self) -> SequenceCache {
        let n = self.groups.len();
        SequenceCache { tables: vec![Vec::new(); n], n_dropped: vec![0; n], len: 0, shared: false }
    }

    /// A sequence that will hold `tokens`, with the longest cached prefix of them taken over (never all of them: the last
    /// token must run for its logits). `copy` is called for each page to copy, and must do so at once.
    pub(crate) fn start(&mut self, tokens: &[u32], mut copy: impl FnMut(PageCopy)) -> SequenceCache {
        self.clock += 1;
        let most = tokens.len().saturating_sub(1);
        let mut path = self.path(&tokens[..most]);
        let last = path.last().copied().unwrap_or(ROOT);
        let part = self.tree.longest_start(last, &tokens[path.len() * PAGE_TOKENS..most]);
        let part = part.filter(|&(child, n)| self.holds(&path, Some(child), path.len() * PAGE_TOKENS + n));
        if part.is_none() {
            while !self.holds(&path, None, path.len() * PAGE_TOKENS) {
                path.pop();
            }
        }
        let n_matched = path.len() * PAGE_TOKENS + part.map_or(0, |(_, n)| n);
        for &id in path.iter().chain(part.iter().map(|(child, _)| child)) {
            if let Some(node) = self.tree.get_mut(id) {
                node.last_used = self.clock;
            }
        }
        let mut sequence = self.take_over(&path, n_matched);
        if let Some((child, n_tokens)) = part
            && !self.copy_start(&mut sequence, child, n_tokens, &mut copy)
        {
            // Without the copy, a window reaches further back. Making room for it may have cost some of the path, too.
            while !self.holds(&path, None, path.len() * PAGE_TOKENS) {
                path.pop();
            }
            let whole = self.take_over(&path, path.len() * PAGE_TOKENS);
            self.give_back(std::mem::replace(&mut sequence, whole));
        }
        sequence
    }

    /// A sequence of the full pages of `path`, those that a token at `position` sees.
    fn take_over(&mut self, path: &[NodeId], position: usize) -> SequenceCache {
        let mut sequence =
            SequenceCache { shared: true, len: path.len() * PAGE_TOKENS, ..self.start_alone() };
        for (g, group) in self.groups.iter_mut().enumerate() {
            let first = group.first_visible(position) / PAGE_TOKENS;
            sequence.n_dropped[g] = first.min(path.len());
            for (at, &id) in path.iter().enumerate() {
                let page = self.tree.get(id).map_or(NO_PAGE, |node| node.pages[g]);
                let page = if at < first { NO_PAGE } else { page };
                if page != NO_PAGE {
                    group.pool.share(page);
                }
                sequence.tables[g].push(page);
            }
        }
        sequence
    }

    /// The cached full pages with which `tokens` begin.
    fn path(&self, tokens: &[u32]) -> Vec<NodeId> {
        let mut path: Vec<NodeId> = Vec::new();
        for page in tokens.chunks_exact(PAGE_TOKENS) {
            match self.tree.child(path.last().copied().unwrap_or(ROOT), page) {
                Some(child) => path.push(child),
                None => break,
            }
        }
        path
    }

    /// How many of `tokens`, from the first on, full cached pages hold.
    pub(crate) fn n_cached(&self, tokens: &[u32]) -> usize {
        self.path(tokens).len() * PAGE_TOKENS
    }

    /// Whether a sequence of `tokens` that may grow to `n` positions has room beside the `live` ones, each with the
    /// number that it may grow to. What is cached and not in use counts as room. Windows do not matter: they have
    /// pages for every sequence.
    pub(crate) fn has_room<'a>(
        &self,
        live: impl Iterator<Item = (&'a SequenceCache, usize)> + Clone,
        tokens: &[u32],
        n: usize,
    ) -> bool {
        let pages = |n: usize| n.div_ceil(PAGE_TOKENS);
        let most: usize = live.clone().map(|(_, n)| pages(n)).sum();
        let path = self.path(tokens);
        self.groups.iter().enumerate().filter(|(_, group)| group.window.is_none()).all(|(g, group)| {
            let n_pages = group.pool.n_pages();
            if most + pages(n) <= n_pages {
                return true;
            }
            // Perhaps they share.
            let mut in_use = vec![false; n_pages];
            let mut n_needed = pages(n);
            for (sequence, n) in live.clone() {
                let table = &sequence.tables[g];
                n_needed += pages(n).saturating_sub(table.len());
                for &page in table {
                    if let Some(used) = in_use.get_mut(page as usize) {
                        n_needed += usize::from(!std::mem::replace(used, true));
                    }
                }
            }
            let page = |id: &NodeId| self.tree.get(*id).map_or(NO_PAGE, |node| node.pages[g]);
            let n_shared = path.iter().filter(|id| in_use.get(page(id) as usize) == Some(&true)).count();
            n_needed - n_shared.min(pages(n)) <= n_pages
        })
    }

    /// Gives `sequence` a page of its own with the first `n_tokens` of `child`'s. False: no page is to be had.
    fn copy_start(
        &mut self,
        sequence: &mut SequenceCache,
        child: NodeId,
        n_tokens: usize,
        copy: &mut impl FnMut(PageCopy),
    ) -> bool {
        let Some(sources) = self.tree.get(child).map(|node| node.pages.clone()) else { return false };
        // Held so that making room cannot take them away.
        for (group, &page) in self.groups.iter_mut().zip(&*sources) {
            if page != NO_PAGE {
                group.pool.share(page);
            }
        }
        let has_page = self.reserve(sequence, n_tokens).is_ok();
        if has_page {
            for (group, &from) in sources.iter().enumerate() {
                let to = sequence.tables[group].last().copied().unwrap_or(NO_PAGE);
                if from != NO_PAGE && to != NO_PAGE {
                    copy(PageCopy { group, from, to, n_tokens });
                }
            }
            sequence.len += n_tokens;
        }
        for (group, &page) in self.groups.iter_mut().zip(&*sources) {
            if page != NO_PAGE {
                group.pool.give_back(page);
            }
        }
        has_page
    }

    /// Whether the nodes of `path`, and `part` after them, hold every page that a token at `position` sees.
    fn holds(&self, path: &[NodeId], part: Option<NodeId>, position: usize) -> bool {
        self.groups.iter().enumerate().all(|(g, group)| {
            let first = group.first_visible(position) / PAGE_TOKENS;
            let needed = path.iter().chain(&part).skip(first);
            needed.into_iter().all(|&id| self.tree.get(id).is_some_and(|node| node.pages[g] != NO_PAGE))
        })
    }

    /// Sees to pages for `n_new` more positions, evicting cached prefixes where it must.
    pub(crate) fn reserve(&mut self, sequence: &mut SequenceCache, n_new: usize) -> Result<(), OutOfPages> {
        let n_pages = (sequence.len + n_new).div_ceil(PAGE_TOKENS);
        for g in 0..self.groups.len() {
            while sequence.tables[g].len() < n_pages {
                let page = self.take(g)?;
                sequence.tables[g].push(page);
            }
        }
        Ok(())
    }

    /// Records that `n_new` more of the sequence's `tokens` (all of them, from the first) are now in the cache.
    pub(crate) fn commit(&mut self, sequence: &mut SequenceCache, tokens: &[u32], n_new: usize) {
        let before = sequence.len / PAGE_TOKENS;
        sequence.len += n_new;
        if sequence.shared && sequence.len / PAGE_TOKENS > before {
            self.register(sequence, tokens);
        }
        for (g, group) in self.groups.iter_mut().enumerate() {
            let first = group.first_visible(sequence.len) / PAGE_TOKENS;
            while sequence.n_dropped[g] < first.min(sequence.tables[g].len()) {
                let page = std::mem::replace(&mut sequence.tables[g][sequence.n_dropped[g]], NO_PAGE);
                if page != NO_PAGE {
                    group.pool.give_back(page);
                }
                sequence.n_dropped[g] += 1;
            }
        }
    }

    /// Ends a sequence. `tokens` are all that it held; what is cached of them stays until its memory is needed.
    pub(crate) fn release(&mut self, sequence: SequenceCache, tokens: &[u32]) {
        if sequence.shared && !sequence.len.is_multiple_of(PAGE_TOKENS) {
            let parent = self.register(&sequence, tokens);
            self.register_rest(&sequence, tokens, parent);
        }
        self.give_back(sequence);
    }

    fn give_back(&mut self, sequence: SequenceCache) {
        for (group, table) in self.groups.iter_mut().zip(&sequence.tables) {
            for &page in table.iter().filter(|&&page| page != NO_PAGE) {
                group.pool.give_back(page);
            }
        }
    }

    /// Enters the full pages of a sequence into the tree; gives the node of the last.
    fn register(&mut self, sequence: &SequenceCache, tokens: &[u32]) -> NodeId {
        self.clock += 1;
        let mut parent = ROOT;
        for (at, page) in tokens[..sequence.len].chunks_exact(PAGE_TOKENS).enumerate() {
            parent = match self.tree.child(parent, page) {
                Some(child) => {
                    self.fill(child, sequence, at);
                    child
                }
                None => self.enter(parent, page, sequence, at),
            };
        }
        parent
    }

    fn enter(&mut self, parent: NodeId, tokens: &[u32], sequence: &SequenceCache, at: usize) -> NodeId {
        let pages: Box<[u32]> = sequence.tables.iter().map(|table| table[at]).collect();
        for (group, &page) in self.groups.iter_mut().zip(&*pages) {
            if page != NO_PAGE {
                group.pool.share(page);
            }
        }
        self.tree.insert(parent, tokens, pages, self.clock)
    }

    /// Gives a known node the pages that it lost and the sequence still has.
    fn fill(&mut self, id: NodeId, sequence: &SequenceCache, at: usize) {
        let Some(node) = self.tree.get_mut(id) else { return };
        node.last_used = self.clock;
        for ((held, group), table) in node.pages.iter_mut().zip(&mut self.groups).zip(&sequence.tables) {
            if *held == NO_PAGE && table[at] != NO_PAGE {
                group.pool.share(table[at]);
                *held = table[at];
            }
        }
    }

    /// Enters the last, partly filled page.
    fn register_rest(&mut self, sequence: &SequenceCache, tokens: &[u32], parent: NodeId) {
        let at = sequence.len / PAGE_TOKENS;
        let rest = &tokens[at * PAGE_TOKENS..sequence.len];
        if let Some((known, n)) = self.tree.longest_start(parent, rest)
            && let Some(node) = self.tree.get(known)
        {
            if n == rest.len() && !node.pages.contains(&NO_PAGE) {
                return;
            }
            if n == node.tokens.len() && !node.is_full() {
                self.remove(known);
            }
        }
        self.enter(parent, rest, sequence, at);
    }

    fn take(&mut self, group: usize) -> Result<u32, OutOfPages> {
        loop {
            if let Some(page) = self.groups[group].pool.take() {
                return Ok(page);
            }
            self.evict(group)?;
        }
    }

    /// Gives up the pages of one node, so that a page of `group` may become free.
    fn evict(&mut self, group: usize) -> Result<(), OutOfPages> {
        let Group { window, pool } = &self.groups[group];
        let frees = |page: u32| page != NO_PAGE && pool.n_owners(page) == 1;
        if window.is_some() {
            // A prefix can do without its pages outside of the window, so the tree's shape does not matter.
            let id = self.tree.oldest(|node| frees(node.pages[group])).ok_or(OutOfPages)?;
            if let Some(node) = self.tree.get_mut(id) {
                let page = std::mem::replace(&mut node.pages[group], NO_PAGE);
                self.groups[group].pool.give_back(page);
            }
            self.prune(id);
            return Ok(());
        }
        let leaf = self.tree.oldest(|node| node.is_leaf() && frees(node.pages[group]));
        // A leaf that a live sequence shares frees nothing, but may stand before one that does.
        let leaf = leaf.or_else(|| self.tree.oldest(prefix::Node::is_leaf)).ok_or(OutOfPages)?;
        self.remove(leaf);
        Ok(())
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.tree.remove(id) {
            for (group, &page) in self.groups.iter_mut().zip(&*node.pages) {
                if page != NO_PAGE {
                    group.pool.give_back(page);
                }
            }
        }
    }

    /// Removes `id` and what is above it, as far as they are leaves without pages.
    fn prune(&mut self, mut id: NodeId) {
        while id != ROOT && self.tree.is_empty(id) && self.tree.get(id).is_some_and(prefix::Node::is_leaf) {
            let parent = self.tree.parent(id);
            self.remove(id);
            id = parent;
        }
    }

    /// Forgets all cached prefixes.
    pub(crate) fn clear(&mut self) {
        while let Some(leaf) = self.tree.oldest(prefix::Node::is_leaf) {
            self.remove(leaf);
        }
    }

    /// Pages that a sequence needs where nothing leaves its window, of those that there are.
    pub(crate) fn fits(&self, n_positions: usize) -> bool {
        let n_pages = n_positions.div_ceil(PAGE_TOKENS);
        self.groups.iter().filter(|group| group.window.is_none()).all(|group| n_pages <= group.pool.n_pages())
    }

    /// Free and all pages, of all groups.
    pub(crate) fn n_pages(&self) -> (usize, usize) {
        let pools = self.groups.iter().map(|group| &group.pool);
        pools.fold((0, 0), |(free, all), pool| (free + pool.n_free(), all + pool.n_pages()))
    }

    /// Free pages of each group; cached prefixes are not free.
    pub(crate) fn n_free(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.pool.n_free()).collect()
    }
}
