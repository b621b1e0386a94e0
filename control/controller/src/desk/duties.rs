//! What health has to write: transitions of states, and rows that are to be forgotten.

use registry::{Key, MAX_WRITES, Preconditions, Row, Write, rows};

use crate::picture::{Picture, Unwritten};

/// Rows that are one transaction.
#[derive(Debug, Default)]
pub(super) struct Duty {
    pub(super) writes: Vec<Write>,
    pub(super) expected: Preconditions,
    /// Put back into the picture when the write fails.
    pub(super) states: Vec<(String, Unwritten)>,
}

/// The next transaction that health asks for; `None` when the registry holds everything.
pub(super) fn next(picture: &mut Picture) -> Option<Duty> {
    let mut duty = Duty::default();
    while duty.writes.len() < MAX_WRITES
        && let Some((id, unwritten)) = picture.unwritten.pop_first()
    {
        let Some(found) = picture.rows.backends.get(&id) else { continue };
        let Some(row) = picture.with_state(&found.row, unwritten) else { continue };
        duty.expected = duty.expected.at(Key::Backend(id.clone()), found.version);
        duty.writes.push(Write::Put(Row::Backend(row)));
        picture.writing.insert(id.clone());
        duty.states.push((id, unwritten));
    }
    while duty.writes.len() < MAX_WRITES
        && let Some(id) = picture.forgettable.pop_first()
    {
        let Some(found) = picture.rows.backends.get(&id) else { continue };
        // It may have been registered anew meanwhile.
        if !found.row.deregistered || found.row.state != rows::BackendState::Evicted {
            continue;
        }
        let key = Key::Backend(id);
        duty.expected = duty.expected.at(key.clone(), found.version);
        duty.writes.push(Write::Remove(key));
    }
    (!duty.writes.is_empty()).then_some(duty)
}

impl Duty {
    /// It is done, or will be tried again.
    pub(super) fn over(self, picture: &mut Picture, written: bool) {
        picture.writing.clear();
        if written {
            return;
        }
        for (id, unwritten) in self.states {
            picture.unwritten.entry(id).or_insert(unwritten);
        }
        let removed = self.writes.into_iter().filter_map(|write| match write {
            Write::Remove(Key::Backend(id)) => Some(id),
            _ => None,
        });
        picture.forgettable.extend(removed);
    }
}
