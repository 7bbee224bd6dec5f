//! The host's answers, reporting the model id that was asked for: the host itself would report the
//! path it has loaded.

use axum::body::{to_bytes, Body, Bytes};
use axum::http::{header, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::value::{to_raw_value, RawValue};

use super::chains::Fields;
use super::error::Refusal;

/// `response` with `id` as its model; a stream event by event, as they come.
pub async fn report_model(response: Response, id: String) -> Result<Response, Refusal> {
    if !response.status().is_success() {
        return Ok(response);
    }
    let model = to_raw_value(&id).map_err(Refusal::internal)?;
    let (mut parts, body) = response.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let body = match kind.as_deref() {
        Some(b"text/event-stream") => {
            // The host writes every event as one frame.
            Body::new(body.map_frame(move |frame| frame.map_data(|data| event(data, &model))))
        }
        Some(b"application/json") => {
            let body = to_bytes(body, usize::MAX).await.map_err(Refusal::internal)?;
            let body = with_model(&body, &model).map(Bytes::from).unwrap_or(body);
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
            Body::from(body)
        }
        _ => body,
    };
    Ok(Response::from_parts(parts, body))
}

/// A server-sent event of the host. Its errors are plain text where clients expect JSON.
fn event(event: Bytes, model: &RawValue) -> Bytes {
    let text = String::from_utf8_lossy(&event);
    let lines: Option<Vec<&str>> =
        text.trim_end().lines().map(|line| line.strip_prefix("data: ")).collect();
    // Comments, which keep the connection alive, and named events have other lines as well.
    let Some(data) = lines.map(|lines| lines.join("\n")) else {
        return event;
    };
    if data.is_empty() || data == "[DONE]" {
        return event;
    }
    let data = with_model(data.as_bytes(), model).unwrap_or_else(|| {
        Refusal::new(data).with_status(StatusCode::INTERNAL_SERVER_ERROR).body().to_string()
    });
    format!("data: {data}\n\n").into()
}

/// The JSON object `json` with `model` in its field `model`; None if it is not an object.
fn with_model(json: &[u8], model: &RawValue) -> Option<String> {
    let mut fields: Fields = serde_json::from_slice(json).ok()?;
    if let Some(field) = fields.get_mut("model") {
        *field = model.to_owned();
    }
    serde_json::to_string(&fields).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &'static str) -> String {
        let model = to_raw_value("tiny@2").unwrap();
        String::from_utf8(event(Bytes::from_static(text.as_bytes()), &model).to_vec()).unwrap()
    }

    #[test]
    fn an_event_reports_the_model_and_nothing_else_changes() {
        let chunk = rewritten("data: {\"b\":1.50,\"model\":\"/a/path\",\"a\":[ ]}\n\n");
        assert_eq!(chunk, "data: {\"b\":1.50,\"model\":\"tiny@2\",\"a\":[ ]}\n\n");
        for same in ["data: [DONE]\n\n", ":\n\n", "event: done\ndata: {\"model\":\"x\"}\n\n"] {
            assert_eq!(rewritten(same), same);
        }
    }

    #[test]
    fn an_error_in_a_stream_is_an_error_object() {
        let error = rewritten("data: too long\ndata: by far\n\n");
        let error = error.strip_prefix("data: ").unwrap();
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["message"], "too long\nby far");
    }
}
