//! The versions of Atlas's API that a lookup can be asked by.

/// Which of Atlas's two paths was used; both give the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiVersion {
    /// `/api/atlas/v1.0`
    V1,
    /// `/api/atlas/v2`
    V2,
}

impl ApiVersion {
    /// The path before `/groups/`.
    pub fn root(self) -> &'static str {
        match self {
            Self::V1 => "/api/atlas/v1.0",
            Self::V2 => "/api/atlas/v2",
        }
    }
}
