//! The host's answers, reporting the model id that was asked for: the host itself would report the
//! path it has loaded.

use axum::body::{to_bytes, Body, BodyDataStream, Bytes};
use axum::http::{header, StatusCode};
use axum::response::Response;
use futures::{stream, StreamExt, TryStreamExt};
use serde_json::value::{to_raw_value, RawValue};

use super::chains::Fields;
use super::error::Refusal;

/// `response` with `id` as its model; a stream event by event, as they come.
pub async fn report_model(response: Response, id: &str) -> Result<Response, Refusal> {
    if !response.status().is_success() {
        return Ok(response);
    }
    let model = to_raw_value(id).map_err(Refusal::internal)?;
    let (mut parts, body) = response.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let body = match kind {
        Some(b"text/event-stream") => stream_of(body.into_data_stream(), model).await?,
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

/// `response`, which holds `held` until its body has been sent or nobody waits for it any more.
pub fn hold<T: Send + 'static>(response: Response, held: T) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            // The stream owns it.
            let _ = &held;
        }))
    })
}

/// The host's server-sent `events`, each of them one frame. If the first is an error, as with a
/// prompt that is too long, the request has been refused: there is no stream yet to report it in.
async fn stream_of(mut events: BodyDataStream, model: Box<RawValue>) -> Result<Body, Refusal> {
    let first = events.try_next().await.map_err(Refusal::internal)?;
    let first = first.ok_or_else(|| Refusal::internal("the engine has not answered"))?;
    if let Some(Err(message)) = chunk(&first, &model) {
        return Err(Refusal::new(message).with_status(StatusCode::UNPROCESSABLE_ENTITY));
    }
    let events = stream::iter([Ok(first)]).chain(events);
    Ok(Body::from_stream(events.map_ok(move |event| match chunk(&event, &model) {
        Some(Ok(chunk)) => format!("data: {chunk}\n\n").into(),
        Some(Err(message)) => format!("data: {}\n\n", Refusal::internal(message).body()).into(),
        None => event,
    })))
}

/// The chunk of an answer in an event, with `model` as its model; or the error that the host wrote
/// as plain text in its place. None for other events: comments, which keep the connection alive,
/// named events and the end.
fn chunk(event: &[u8], model: &RawValue) -> Option<Result<String, String>> {
    let text = String::from_utf8_lossy(event);
    let lines: Option<Vec<&str>> =
        text.trim_end().lines().map(|line| line.strip_prefix("data: ")).collect();
    let data = lines?.join("\n");
    if data.is_empty() || data == "[DONE]" {
        return None;
    }
    Some(with_model(data.as_bytes(), model).ok_or(data))
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

    /// What becomes of a stream of `events`.
    async fn streamed(events: &'static [&'static str]) -> Result<String, Refusal> {
        let events = stream::iter(events.iter().map(|event| Ok::<_, Refusal>(Bytes::from(*event))));
        let events = Body::from_stream(events.map_err(|refusal| refusal.message));
        let body = stream_of(events.into_data_stream(), to_raw_value("tiny@2").unwrap()).await?;
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_chunk_reports_the_model_and_nothing_else_changes() {
        let chunk = streamed(&["data: {\"b\":1.50,\"model\":\"/a/path\",\"a\":[ ]}\n\n"]).await;
        assert_eq!(chunk.unwrap(), "data: {\"b\":1.50,\"model\":\"tiny@2\",\"a\":[ ]}\n\n");
        const OTHERS: [&str; 3] =
            ["event: done\ndata: {\"model\":\"x\"}\n\n", ":\n\n", "data: [DONE]\n\n"];
        assert_eq!(streamed(&OTHERS).await.unwrap(), OTHERS.concat());
    }

    #[tokio::test]
    async fn an_error_before_the_stream_refuses_the_request() {
        let refusal = streamed(&["data: too long\ndata: by far\n\n"]).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refusal.message, "too long\nby far");
    }

    #[tokio::test]
    async fn an_error_in_a_stream_is_an_error_object() {
        let events = streamed(&["data: {}\n\n", "data: out of memory\n\n"]).await.unwrap();
        let error = events.strip_prefix("data: {}\n\ndata: ").unwrap();
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["message"], "out of memory");
    }
}
