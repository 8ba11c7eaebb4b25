//! The wire between a store and S3: what goes over it is written down, answers can be exchanged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use gitferry_store::objects::{S3Options, S3Store};

use gitferry_test_support::aws::Emulator;
use gitferry_test_support::operation;

/// Requests by one store.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    answers: Vec<Answer>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub operation: &'static str,
    pub headers: BTreeMap<String, String>,
}

/// What is answered instead of what S3 says.
#[derive(Clone, Debug)]
pub struct Answer {
    pub operation: &'static str,
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
    /// How many requests are answered so.
    pub times: usize,
}

impl Answer {
    /// An error as S3 writes it.
    pub fn error(operation: &'static str, status: u16, code: &str) -> Answer {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
        Answer { operation, status, headers: Vec::new(), body, times: usize::MAX }
    }

    pub fn once(self) -> Answer {
        Answer { times: 1, ..self }
    }
}

impl Wire {
    /// A store on a bucket of the emulator behind this wire.
    pub async fn store(&self, options: S3Options) -> S3Store {
        let sdk = Emulator::get().sdk_config().await;
        let config = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).interceptor(self.clone());
        let name = format!("s3://{}", options.bucket);
        S3Store::from_config(config, &sdk, options, name)
    }

    pub fn answer(&self, answer: Answer) {
        self.lock().answers.push(answer);
    }

    /// From now on, nothing was sent, and S3 answers for itself.
    pub fn reset(&self) {
        *self.lock() = State::default();
    }

    pub fn count(&self, operation: &str) -> usize {
        self.lock().seen.iter().filter(|seen| seen.operation == operation).count()
    }

    /// How often each operation was requested.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        self.lock().seen.iter().for_each(|seen| *counts.entry(seen.operation).or_default() += 1);
        counts
    }

    /// A header of every request of an operation.
    pub fn headers(&self, operation: &str, name: &str) -> Vec<Option<String>> {
        let state = self.lock();
        let seen = state.seen.iter().filter(|seen| seen.operation == operation);
        seen.map(|seen| seen.headers.get(name).cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// What is asked for, until it is answered.
#[derive(Debug)]
struct Asked(&'static str);

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

fn operation(request: &HttpRequest) -> &'static str {
    let copies = request.headers().get("x-amz-copy-source").is_some();
    let named = operation::of_s3(request.method(), request.uri(), copies);
    named.unwrap_or_else(|| panic!("{} {}", request.method(), request.uri()))
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "Wire"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = operation(context.request());
        config.interceptor_state().store_put(Asked(operation));
        let headers = context.request().headers().iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut state = self.lock();
        state.seen.push(Seen { operation, headers });
        // What is answered otherwise must not happen, where that can be had.
        let answered = state.answers.iter().any(|answer| answer.operation == operation && answer.times > 0);
        if answered && operation.contains("Copy") {
            context.request_mut().headers_mut().insert("x-amz-copy-source", "nowhere/nothing");
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Asked(operation)) = config.load::<Asked>() else { return Ok(()) };
        let mut state = self.lock();
        let found = state.answers.iter_mut().find(|answer| answer.operation == *operation && answer.times > 0);
        if let Some(answer) = found {
            answer.times -= 1;
            exchange(context.response_mut(), answer);
        }
        Ok(())
    }
}

fn exchange(response: &mut HttpResponse, answer: &Answer) {
    *response.status_mut() = answer.status.try_into().unwrap();
    response.headers_mut().insert("content-length", answer.body.len().to_string());
    for (name, value) in &answer.headers {
        response.headers_mut().insert(*name, *value);
    }
    *response.body_mut() = SdkBody::from(answer.body.as_str());
}

/// A new bucket.
pub async fn bucket() -> S3Options {
    S3Options { bucket: Emulator::get().bucket().await, prefix: "below/this".into(), ..S3Options::default() }
}
