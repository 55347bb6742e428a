//! What is answered when a request cannot be.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::types::Failure;

/// An error with its status and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    error: String,
    hint: String,
}

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    /// 403: not for whoever asks.
    pub fn forbidden(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, hint)
    }

    /// 404: there is no such thing.
    pub fn not_found(error: String, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, hint)
    }

    /// 405: not with this method.
    pub fn method_not_allowed(error: String, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error, hint)
    }

    /// 422: understood, and wrong.
    pub fn unprocessable(error: String, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint)
    }

    /// 500: this member's or its machine's fault.
    pub fn internal(error: String, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error, hint)
    }

    /// 503: not now.
    pub fn unavailable(error: String, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, hint)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Failure { error: self.error, hint: self.hint })).into_response()
    }
}
