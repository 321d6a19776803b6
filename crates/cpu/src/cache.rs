//! Storage of cached keys and values.
//!
//! Per layer, a page holds for each key-value head the keys of [`PAGE_TOKENS`] tokens transposed,
//! `(head_dim, PAGE_TOKENS)`, and their values, `(PAGE_TOKENS, head_dim)`; see `kernels::attention`.

use whit_base::{BackendError, CacheLayer, CacheType, PAGE_TOKENS};

use crate::memory::Memory;

/// Head sizes are padded to whole registers of the widest level.
pub(crate) fn padded_head_dim(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// One layer's pages.
pub(crate) struct LayerCache {
    keys: Memory,
    values: Memory,
    /// Bytes of one page of one head.
    head_bytes: usize,
    /// Bytes of one page.
    pub(crate) page_bytes: usize,
    n_pages: usize,
}

impl LayerCache {
    pub(crate) fn new(
        layer: &CacheLayer,
        cache_type: CacheType,
        n_pages: usize,
    ) -> Result<LayerCache, BackendError> {
        let element = match cache_type {
            CacheType::F32 => 4,
            CacheType::F16 => 2,
        };
        let head_bytes = PAGE_TOKENS * padded_head_dim(layer.head_dim) * element;
        let page_bytes = head_bytes * layer.n_kv_heads;
        let what = "the key-value cache";
        let total =
            page_bytes.checked_mul(n_pages).ok_or(BackendError::OutOfMemory { what, bytes: usize::MAX })?;
        Ok(LayerCache {
            keys: Memory::new(total, what)?,
            values: Memory::new(total, what)?,
            head_bytes,
            page_bytes,
            n_pages,
        })
    }

    /// Keys and values of `kv_head` in page 0; page `p` is `p * page_bytes` further on.
    pub(crate) fn head(&self, kv_head: usize) -> (*mut u8, *mut u8) {
        let offset = kv_head * self.head_bytes;
        assert!(offset < self.page_bytes);
        // SAFETY: the offset lies within page 0.
        unsafe { (self.keys.ptr::<u8>().add(offset), self.values.ptr::<u8>().add(offset)) }
    }

    /// Copies a page.
    pub(crate) fn copy_page(&mut self, from: usize, to: usize) {
        assert!(from < self.n_pages && to < self.n_pages, "pages {from} and {to} of {}", self.n_pages);
        for memory in [&self.keys, &self.values] {
            let base = memory.ptr::<u8>();
            // SAFETY: both pages lie within the block; `copy` allows equal ones.
            unsafe {
                std::ptr::copy(
                    base.add(from * self.page_bytes),
                    base.add(to * self.page_bytes),
                    self.page_bytes,
                )
            }
        }
    }

    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }
}
