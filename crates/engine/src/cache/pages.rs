//! A pool of cache pages with reference counts. Knows numbers, not memory: the backend owns what a page holds.

/// The pages of one cache group.
#[derive(Debug)]
pub(crate) struct PagePool {
    /// Owners of each page; 0 is free.
    owners: Vec<u32>,
    /// Free pages, the next to be given out last: pages used before come back first, so that memory never touched
    /// stays untouched.
    free: Vec<u32>,
}

impl PagePool {
    /// `n_pages` free pages, given out from 0 up.
    pub(crate) fn new(n_pages: usize) -> PagePool {
        PagePool { owners: vec![0; n_pages], free: (0..n_pages as u32).rev().collect() }
    }

    /// A page with one owner.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.owners[page as usize] = 1;
        Some(page)
    }

    /// One owner more.
    pub(crate) fn share(&mut self, page: u32) {
        debug_assert!(self.owners[page as usize] > 0, "sharing a free page");
        self.owners[page as usize] += 1;
    }

    /// One owner less; the last one frees the page.
    pub(crate) fn give_back(&mut self, page: u32) {
        let owners = &mut self.owners[page as usize];
        debug_assert!(*owners > 0, "giving back a free page");
        *owners -= 1;
        if *owners == 0 {
            self.free.push(page);
        }
    }

    pub(crate) fn n_owners(&self, page: u32) -> u32 {
        self.owners[page as usize]
    }

    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn n_pages(&self) -> usize {
        self.owners.len()
    }
}
