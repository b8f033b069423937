//! Which methods a route answers.

use http::Method;

/// A set of methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    Any,
    These(Vec<Method>),
}

// === impl Methods ===

impl Methods {
    pub(crate) fn include(&self, method: &Method) -> bool {
        match self {
            Self::Any => true,
            Self::These(methods) => methods.contains(method),
        }
    }

    pub(crate) fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::These(methods), other) | (other, Self::These(methods)) => {
                methods.iter().any(|method| other.include(method))
            }
            (Self::Any, Self::Any) => true,
        }
    }

    /// The methods by name; none for [`Any`](Self::Any).
    pub(crate) fn listed(&self) -> &[Method] {
        match self {
            Self::Any => &[],
            Self::These(methods) => methods,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::These(Vec::new())
    }
}
