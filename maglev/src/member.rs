//! Who can be chosen, and the checked, ordered form that builds start from.

use crate::error::Error;

/// A backend of a pool, as far as choosing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The stable backend id. It alone decides the backend's permutation.
    pub id: &'a str,
    /// What `pick` answers. Distinct within a pool; decides nothing.
    pub index: u32,
    /// Share relative to the other members; 0: is never chosen.
    pub weight: u32,
}

/// All members, with distinct ids and indices, in the order of their ids.
pub(crate) struct Roster<'a> {
    members: Vec<Member<'a>>,
}

impl<'a> Roster<'a> {
    /// Sorts and checks.
    pub(crate) fn new(members: &[Member<'a>]) -> Result<Roster<'a>, Error> {
        let mut members = members.to_vec();
        members.sort_unstable_by_key(|member| (member.index, member.id));
        if let Some((first, second)) =
            first_pair(&members, |a, b| a.index == b.index && a.id != b.id)
        {
            return Err(Error::DuplicateIndex {
                index: first.index,
                first: first.id.to_owned(),
                second: second.id.to_owned(),
            });
        }
        members.sort_unstable_by_key(|member| member.id);
        if let Some((first, _)) = first_pair(&members, |a, b| a.id == b.id) {
            return Err(Error::DuplicateId { id: first.id.to_owned() });
        }
        Ok(Roster { members })
    }

    /// In the order of ids.
    pub(crate) fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// Members that can be chosen, with their position in [`Roster::members`].
    pub(crate) fn eligible(&self) -> impl Iterator<Item = (u32, &Member<'a>)> {
        (0u32..).zip(&self.members).filter(|(_, member)| member.weight > 0)
    }
}

fn first_pair<'a>(
    members: &[Member<'a>],
    same: impl Fn(&Member<'a>, &Member<'a>) -> bool,
) -> Option<(Member<'a>, Member<'a>)> {
    let mut pairs = members.iter().zip(members.iter().skip(1));
    pairs.find(|(first, second)| same(first, second)).map(|(first, second)| (*first, *second))
}
