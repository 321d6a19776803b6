//! Storage of cached keys and values.
//!
//! A page of a cache group holds [`whit_base::PAGE_TOKENS`] tokens of all layers of the group, layer after layer, and in each, for
//! every key-value head, the head's keys and then its values; `kernels::attention::store` says how these lie. So what a
//! sequence has in the cache is mostly in one place, however short it is.

use whit_base::{BackendError, CacheGroup, CacheType, Plan};

use crate::kernels::attention::{head_bytes, padded_head_dim};
use crate::memory::Memory;

/// The pages of one cache group.
struct Pages {
    memory: Memory,
    /// Bytes of one page.
    stride: usize,
    n_pages: usize,
}

/// Where a layer lies in the pages of its group.
struct LayerPlace {
    group: usize,
    offset: usize,
    /// Bytes of one head's keys in a page, and of its values.
    head_bytes: usize,
    n_kv_heads: usize,
}

/// Cached keys and values of all layers.
pub(crate) struct Cache {
    groups: Vec<Pages>,
    layers: Vec<LayerPlace>,
}

/// Keys and values of a layer's head in page 0 of its group; those of page `p` lie `p * stride` further on.
pub(crate) struct CachedHead {
    pub(crate) keys: *mut u8,
    pub(crate) values: *mut u8,
    pub(crate) stride: usize,
}

impl Cache {
    /// `n_pages` for each of the plan's `groups`.
    pub(crate) fn new(
        plan: &Plan,
        groups: &[CacheGroup],
        cache_type: CacheType,
        n_pages: &[usize],
    ) -> Result<Cache, BackendError> {
        let mut strides = vec![0; groups.len()];
        let layers = plan.caches.iter().enumerate().map(|(index, layer)| {
            let within = |group: &CacheGroup| group.layers.iter().any(|id| id.0 as usize == index);
            let group = groups.iter().position(within).unwrap_or(0);
            let head_bytes = head_bytes(cache_type, padded_head_dim(cache_type, layer.head_dim));
            let offset = strides[group];
            strides[group] += 2 * head_bytes * layer.n_kv_heads;
            LayerPlace { group, offset, head_bytes, n_kv_heads: layer.n_kv_heads }
        });
        let layers = layers.collect();
        let what = "the key-value cache";
        let pages = strides.into_iter().zip(n_pages).map(|(stride, &n_pages)| {
            let total =
                n_pages.checked_mul(stride).ok_or(BackendError::OutOfMemory { what, bytes: usize::MAX })?;
            Ok(Pages { memory: Memory::large(total, what)?, stride, n_pages })
        });
        Ok(Cache { groups: pages.collect::<Result<_, _>>()?, layers })
    }

    /// Which group's page table leads to a layer.
    pub(crate) fn group_of(&self, layer: usize) -> usize {
        self.layers[layer].group
    }

    /// Where `kv_head` of a layer lies.
    pub(crate) fn head(&self, layer: usize, kv_head: usize) -> CachedHead {
        let place = &self.layers[layer];
        assert!(kv_head < place.n_kv_heads, "head {kv_head} of {}", place.n_kv_heads);
        let pages = &self.groups[place.group];
        let offset = place.offset + 2 * kv_head * place.head_bytes;
        // SAFETY: both lie within page 0 if there is one; without pages nothing is read through them.
        let keys = pages.memory.ptr::<u8>().wrapping_add(offset);
        CachedHead { keys, values: keys.wrapping_add(place.head_bytes), stride: pages.stride }
    }

    /// Copies a page of a group.
    pub(crate) fn copy_page(&mut self, group: usize, from: usize, to: usize) {
        let Pages { memory, stride, n_pages } = &self.groups[group];
        assert!(from < *n_pages && to < *n_pages, "pages {from} and {to} of {n_pages}");
        let base = memory.ptr::<u8>();
        // SAFETY: both pages lie within the block; `copy` allows equal ones.
        unsafe { std::ptr::copy(base.add(from * stride), base.add(to * stride), *stride) }
    }

    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.iter().map(|pages| pages.memory.len()).sum()
    }
}
