//! The one shape of a refusal: [`Error`] is built where a rule is broken,
//! travels as the details of a gRPC status, and is rendered by each face.

use prost::Message;
use tonic::Status;

pub use crate::v1::Error;
pub use crate::v1::error::Code;

/// What every fallible call of the control path returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with what happened and nothing else yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// `field` has a value that it cannot have. `field` is a path such as
    /// `task.container.mounts[1].target`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message).at(field)
    }

    /// There is no such object. `kind` in words: `service`, `node`, `task`.
    pub fn not_found(kind: &str, reference: &str) -> Self {
        Self::new(Code::NotFound, format!("{kind} {reference} not found"))
            .on(format!("{kind} {reference}"))
            .hint(format!("skep {kind} ls lists what there is"))
    }

    /// The request is sound, but not now.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::Precondition, message)
    }

    /// Nobody could be asked, or nobody leads.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// The caller's role does not allow it.
    pub fn permission(message: impl Into<String>) -> Self {
        Self::new(Code::Permission, message)
    }

    /// Something that should not happen did.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Names the object concerned.
    #[must_use]
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// Names the field concerned.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether the same request may be sent again, to the same or another
    /// manager, with a chance of another answer.
    pub fn is_retryable(&self) -> bool {
        self.code() == Code::Unavailable
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::Internal => tonic::Code::Internal,
        Code::Invalid | Code::Ambiguous => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::Exists => tonic::Code::AlreadyExists,
        Code::OutOfSequence => tonic::Code::Aborted,
        Code::Precondition | Code::NotManager => tonic::Code::FailedPrecondition,
        Code::Permission => tonic::Code::PermissionDenied,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Timeout => tonic::Code::DeadlineExceeded,
        Code::Unsupported => tonic::Code::Unimplemented,
        Code::Exhausted => tonic::Code::ResourceExhausted,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::with_details(
            grpc_code(error.code()),
            error.to_string(),
            error.encode_to_vec().into(),
        )
    }
}

impl From<Status> for Error {
    /// The error that was sent, or one made of what tonic itself says. What a
    /// broken connection leaves is worth another try: whatever a manager itself
    /// says comes with details.
    fn from(status: Status) -> Self {
        if !status.details().is_empty()
            && let Ok(error) = Error::decode(status.details())
            && !error.message.is_empty()
        {
            return error;
        }
        let code = match status.code() {
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Code::Invalid,
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::AlreadyExists => Code::Exists,
            tonic::Code::Aborted => Code::OutOfSequence,
            tonic::Code::FailedPrecondition => Code::Precondition,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Code::Permission,
            tonic::Code::Unavailable => Code::Unavailable,
            tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::Cancelled => {
                return Error::unavailable(format!("the connection broke: {}", status.message()));
            }
            tonic::Code::DeadlineExceeded => Code::Timeout,
            tonic::Code::Unimplemented => Code::Unsupported,
            tonic::Code::ResourceExhausted => Code::Exhausted,
            _ => Code::Internal,
        };
        Error::new(code, status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let sent = Error::invalid("task.container.image", "is empty").hint("name an image");
        let status = Status::from(sent.clone());
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(Error::from(status), sent);
    }

    #[test]
    fn a_broken_connection_is_worth_another_try() {
        let error = Error::from(Status::unknown("h2 protocol error"));
        assert!(error.is_retryable());
        let said = Status::from(Error::internal("a bug"));
        assert!(!Error::from(said).is_retryable());
    }

    #[test]
    fn a_foreign_status_keeps_its_words() {
        let error = Error::from(Status::unavailable("no route"));
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.message, "no route");
        assert!(error.is_retryable());
    }
}
