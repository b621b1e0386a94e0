//! Dense indices that stay with their owner across table builds.
//!
//! Conntrack entries and counters hold indices, so an index must not change hands quickly: new
//! owners get fresh indices first, and once those have run out, the one that has been free for
//! longest, with another generation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// Indices from 0 to a limit, with their owners.
#[derive(Clone, Debug)]
pub(crate) struct Indices<K> {
    limit: u32,
    owners: Vec<Option<K>>,
    generations: Vec<u16>,
    by_key: HashMap<K, u32>,
    free: VecDeque<u32>,
}

impl<K: Clone + Eq + Hash> Indices<K> {
    /// Up to `limit` owners at a time.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            owners: Vec::new(),
            generations: Vec::new(),
            by_key: HashMap::new(),
            free: VecDeque::new(),
        }
    }

    /// Makes `keys` the owners: those there keep their index, others lose it, new ones get one
    /// (as far as there are any; the caller has checked their number).
    pub(crate) fn retain_or_insert(&mut self, keys: impl IntoIterator<Item = K>) {
        let keys: Vec<K> = keys.into_iter().collect();
        let wanted: HashSet<&K> = keys.iter().collect();
        for (index, owner) in (0u32..).zip(&mut self.owners) {
            if owner.as_ref().is_some_and(|key| !wanted.contains(key)) {
                if let Some(key) = owner.take() {
                    self.by_key.remove(&key);
                }
                self.free.push_back(index);
                let generation = &mut self.generations[index as usize];
                *generation = generation.wrapping_add(1);
            }
        }
        for key in keys {
            if self.by_key.contains_key(&key) {
                continue;
            }
            let fresh = self.owners.len() as u32;
            let index = if fresh < self.limit {
                self.owners.push(None);
                self.generations.push(0);
                fresh
            } else {
                let Some(index) = self.free.pop_front() else { return };
                index
            };
            self.owners[index as usize] = Some(key.clone());
            self.by_key.insert(key, index);
        }
    }

    /// The index of an owner.
    pub(crate) fn index(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The owner of an index.
    pub(crate) fn key(&self, index: u32) -> Option<&K> {
        self.owners.get(index as usize)?.as_ref()
    }

    /// How often an index has changed hands (wrapping).
    pub(crate) fn generation(&self, index: u32) -> u16 {
        self.generations.get(index as usize).copied().unwrap_or_default()
    }

    /// One more than the highest index ever given out.
    pub(crate) fn end(&self) -> usize {
        self.owners.len()
    }

    /// All owners with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        (0u32..).zip(&self.owners).filter_map(|(index, owner)| Some((index, owner.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(indices: &mut Indices<&'static str>, keys: &[&'static str]) -> Vec<Option<u32>> {
        indices.retain_or_insert(keys.iter().copied());
        keys.iter().map(|key| indices.index(key)).collect()
    }

    #[test]
    fn an_owner_keeps_its_index_whoever_comes_and_goes() {
        let mut indices = Indices::new(10);
        assert_eq!(with(&mut indices, &["a", "b", "c"]), [Some(0), Some(1), Some(2)]);
        assert_eq!(with(&mut indices, &["c", "d", "a"]), [Some(2), Some(3), Some(0)]);
        assert_eq!(indices.key(1), None);
    }

    #[test]
    fn a_freed_index_is_used_again_last_and_with_another_generation() {
        let mut indices = Indices::new(3);
        with(&mut indices, &["a", "b"]);
        with(&mut indices, &["b"]);
        assert_eq!(with(&mut indices, &["b", "c"]), [Some(1), Some(2)]);
        assert_eq!(with(&mut indices, &["b", "c", "d"]), [Some(1), Some(2), Some(0)]);
        assert_eq!((indices.generation(0), indices.generation(1)), (1, 0));
    }
}
