//! A caller with a name and a role, and what the role may.
//!
//! Operators may do everything; the others what a call lists. Where access is open (loopback only)
//! there is one identity, which may do everything and speaks for every name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tonic::Status;

/// What a caller is allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// May do everything.
    Operator,
    /// Takes assignments and reports health.
    Checker,
    /// Watches pools and reports what it runs.
    Node,
    /// Reads what an operator may read, and changes nothing.
    Viewer,
}

impl Role {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Checker, Self::Node, Self::Viewer];

    /// The word of the configuration file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Checker => "checker",
            Self::Node => "node",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    /// # Errors
    /// For any other word than the four, with the four in the message.
    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| {
            format!("unknown role {word:?}: expected operator, checker, node or viewer")
        })
    }
}

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Arc<str>,
    role: Role,
    /// No entries exist: everybody may do everything.
    open: bool,
}

impl Identity {
    pub(crate) fn new(name: &str, role: Role) -> Self {
        Self { name: name.into(), role, open: false }
    }

    /// Anybody, where access is open.
    pub(crate) fn anybody() -> Self {
        Self { name: "anybody".into(), role: Role::Operator, open: true }
    }

    /// The entry's name, `anybody` where access is open.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entry's role; [`Role::Operator`] where access is open.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether nothing was asked of the caller, because there are no entries.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the role is one of `roles`, or operator.
    #[must_use]
    pub fn may(&self, roles: &[Role]) -> bool {
        self.role == Role::Operator || roles.contains(&self.role)
    }

    /// Passes operators and the given roles.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, naming the caller, its role and the roles that may.
    pub fn require(&self, roles: &[Role]) -> Result<(), Status> {
        if self.may(roles) {
            return Ok(());
        }
        let mut needed = vec![Role::Operator.as_str()];
        needed.extend(roles.iter().map(|role| role.as_str()).filter(|word| *word != "operator"));
        Err(Status::permission_denied(format!(
            "{} has the role {}: this call is for {}",
            self.name,
            self.role,
            needed.join(", ")
        )))
    }

    /// Passes a caller that speaks for itself: `name`, given in `field`, must be its own, unless
    /// it is an operator or access is open.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with the field and both names.
    pub fn require_name(&self, field: &str, name: &str) -> Result<(), Status> {
        if self.open || self.role == Role::Operator || *self.name == *name {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{field}: {name:?} is not the caller's own name, {:?}",
            self.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_role_is_the_word_of_the_configuration() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
        }
        let error = "admin".parse::<Role>().unwrap_err();
        assert_eq!(error, "unknown role \"admin\": expected operator, checker, node or viewer");
    }

    #[test]
    fn operators_may_everything_and_others_what_a_call_lists() {
        for role in Role::ALL {
            let identity = Identity::new("x", role);
            for listed in Role::ALL {
                let expected = role == Role::Operator || role == listed;
                assert_eq!(identity.require(&[listed]).is_ok(), expected, "{role} {listed}");
            }
            assert_eq!(identity.require(&[]).is_ok(), role == Role::Operator);
        }
    }

    #[test]
    fn a_refusal_says_who_has_what_and_who_may() {
        let refused = Identity::new("lb-a1", Role::Node).require(&[Role::Viewer]).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(refused.message(), "lb-a1 has the role node: this call is for operator, viewer");
    }

    #[test]
    fn a_checker_speaks_for_itself_alone() {
        let checker = Identity::new("checker-1", Role::Checker);
        assert!(checker.require_name("checker_id", "checker-1").is_ok());
        let refused = checker.require_name("checker_id", "checker-2").unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().starts_with("checker_id: \"checker-2\""), "{refused}");
        assert!(Identity::new("o", Role::Operator).require_name("checker_id", "c").is_ok());
        assert!(Identity::anybody().require_name("checker_id", "c").is_ok());
    }
}
