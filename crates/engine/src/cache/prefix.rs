//! The tree of cached prefixes: each node is one page of tokens after its parent's. Tokens are compared themselves; no
//! hash can be wrong.
//!
//! Full pages may have children. A page that its sequence left partly filled is a leaf, of use only to be copied from.

use whit_base::{NO_PAGE, PAGE_TOKENS};

/// A node's place in the tree. The root, which stands for no tokens, is [`ROOT`].
pub(crate) type NodeId = u32;

pub(crate) const ROOT: NodeId = 0;

#[derive(Debug)]
pub(crate) struct Node {
    parent: NodeId,
    /// At most [`PAGE_TOKENS`]; fewer only in leaves.
    pub(crate) tokens: Box<[u32]>,
    /// The page in each cache group, [`NO_PAGE`] where it was given back.
    pub(crate) pages: Box<[u32]>,
    children: Vec<NodeId>,
    pub(crate) last_used: u64,
}

impl Node {
    pub(crate) fn is_full(&self) -> bool {
        self.tokens.len() == PAGE_TOKENS
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }
}

/// Token prefixes and the pages that hold their keys and values. Counts no owners: the caller does.
#[derive(Debug)]
pub(crate) struct PrefixTree {
    nodes: Vec<Option<Node>>,
    vacant: Vec<NodeId>,
}

impl PrefixTree {
    pub(crate) fn new() -> PrefixTree {
        let root = Node {
            parent: ROOT,
            tokens: Box::default(),
            pages: Box::default(),
            children: Vec::new(),
            last_used: 0,
        };
        PrefixTree { nodes: vec![Some(root)], vacant: Vec::new() }
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)?.as_mut()
    }

    fn children(&self, id: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        let children = self.get(id).map_or(&[][..], |node| &node.children);
        children.iter().filter_map(|&child| Some((child, self.get(child)?)))
    }

    /// The child of `id` that holds exactly these tokens.
    pub(crate) fn child(&self, id: NodeId, tokens: &[u32]) -> Option<NodeId> {
        self.children(id).find(|(_, node)| *node.tokens == *tokens).map(|(child, _)| child)
    }

    /// The child of `id` that shares the longest start with `tokens`, and how long that is (at least 1).
    pub(crate) fn longest_start(&self, id: NodeId, tokens: &[u32]) -> Option<(NodeId, usize)> {
        self.children(id)
            .map(|(child, node)| {
                (child, node.tokens.iter().zip(tokens).take_while(|(ours, theirs)| ours == theirs).count())
            })
            .filter(|(_, n)| *n > 0)
            // Of equals, the one used last is likeliest to still have its pages.
            .max_by_key(|&(child, n)| (n, self.get(child).map_or(0, |node| node.last_used)))
    }

    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        tokens: &[u32],
        pages: Box<[u32]>,
        last_used: u64,
    ) -> NodeId {
        let node = Node { parent, tokens: tokens.into(), pages, children: Vec::new(), last_used };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id as usize] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() as NodeId - 1
            }
        };
        if let Some(parent) = self.get_mut(parent) {
            parent.children.push(id);
        }
        id
    }

    /// Takes a leaf out; its pages are the caller's to give back.
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<Node> {
        if id == ROOT || !self.get(id)?.is_leaf() {
            return None;
        }
        let node = self.nodes.get_mut(id as usize)?.take()?;
        self.vacant.push(id);
        if let Some(parent) = self.get_mut(node.parent) {
            parent.children.retain(|&child| child != id);
        }
        Some(node)
    }

    /// The node used longest ago among those that `wanted` accepts.
    pub(crate) fn oldest(&self, wanted: impl Fn(&Node) -> bool) -> Option<NodeId> {
        let nodes = self.nodes.iter().enumerate().skip(1);
        nodes
            .filter_map(|(id, node)| Some((id as NodeId, node.as_ref()?)))
            .filter(|(_, node)| wanted(node))
            .min_by_key(|(_, node)| node.last_used)
            .map(|(id, _)| id)
    }

    /// Whether the node holds no page in any group.
    pub(crate) fn is_empty(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.pages.iter().all(|&page| page == NO_PAGE))
    }

    pub(crate) fn parent(&self, id: NodeId) -> NodeId {
        self.get(id).map_or(ROOT, |node| node.parent)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.iter().flatten().count() - 1
    }
}
