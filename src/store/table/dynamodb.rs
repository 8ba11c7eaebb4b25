//! The table on DynamoDB: partition key `pk` and sort key `sk`, both strings; any billing mode.
//!
//! All reads are strongly consistent. Conditional writes are transactions with a request token, so that an attempt
//! that took effect without a word is recognised by the next one. A single write without a condition is a plain
//! request, at half the price: doing it twice leaves what doing it once does.

mod document;
mod error;
mod item;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Get, TransactGetItem};

use super::{Action, BadRow, Condition, Item, Key, Page, Query, Table, TableError, Write, limits};
use crate::aws::failure::Attempts;
use crate::aws::{CONNECT_TIMEOUT, READ_TIMEOUT};
use error::Cancelled;
use gitferry_base::Kind;
use gitferry_base::retry;
use item::{Attributes, Expression, key_attributes};

/// How long one attempt at a request may take; DynamoDB answers most within 10 ms.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take with all its attempts.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// A table on DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    table: String,
    name: String,
}

impl DynamoTable {
    /// A handle of the table of this name; asks nobody yet. `region` is the region it belongs to, for messages.
    pub fn open(config: &SdkConfig, table: &str, region: &str) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT);
        let config = aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts.build()).build();
        DynamoTable::with_client(Client::from_conf(config), table, region)
    }

    /// Like [`DynamoTable::open`], with a client of one's own.
    pub fn with_client(client: Client, table: &str, region: &str) -> Self {
        DynamoTable { client, table: table.to_owned(), name: format!("dynamodb://{table} of {region}") }
    }

    fn corrupt(&self, reason: String) -> TableError {
        TableError::Corrupt { table: self.name.clone(), reason }
    }

    fn invalid(&self, reason: String) -> TableError {
        TableError::Invalid { table: self.name.clone(), reason }
    }

    fn unbuildable(&self, error: BuildError) -> TableError {
        self.invalid(error.to_string())
    }

    fn item(&self, attributes: Attributes) -> Result<Item, TableError> {
        let item = item::read_item(attributes).map_err(|reason| self.corrupt(reason))?;
        let document = limits::read_document(&self.name, &item.key, item.document)?;
        Ok(Item { document, ..item })
    }

    async fn get_one(&self, key: &Key) -> Result<Option<Item>, TableError> {
        let attempts = Attempts::default();
        let request = self.client.get_item().table_name(&self.table).set_key(Some(key_attributes(key)));
        let answer = request.consistent_read(true).customize().interceptor(attempts.clone()).send().await;
        let found = answer.map_err(|error| error::failed(&self.name, &error, &attempts, false))?.item;
        found.map(|attributes| self.item(attributes)).transpose()
    }

    /// Reads different keys at one moment.
    async fn get_together(&self, keys: &[&Key]) -> Result<Vec<Option<Item>>, TableError> {
        let get = |key: &&Key| {
            let get = Get::builder().table_name(&self.table).set_key(Some(key_attributes(key))).build()?;
            Ok(TransactGetItem::builder().get(get).build())
        };
        let mut tries = retry::Attempts::default();
        loop {
            let gets = keys.iter().map(get).collect::<Result<_, _>>().map_err(|error| self.unbuildable(error))?;
            let attempts = Attempts::default();
            let request = self.client.transact_get_items().set_transact_items(Some(gets));
            let error = match request.customize().interceptor(attempts.clone()).send().await {
                Ok(answer) => {
                    let found = answer.responses.unwrap_or_default();
                    return found.into_iter().map(|r| r.item.map(|item| self.item(item)).transpose()).collect();
                }
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(TransactGetItemsError::TransactionCanceledException(cancelled)) => {
                    self.settle(cancelled.cancellation_reasons(), &mut tries, false).await?;
                }
                _ => return Err(error::failed(&self.name, &error, &attempts, false)),
            }
        }
    }

    /// After a transaction that did not happen: waits where it may happen the next time. While an earlier attempt
    /// may still be under way (`ambiguous`), another token could do it twice.
    async fn settle(
        &self,
        reasons: &[CancellationReason],
        tries: &mut retry::Attempts,
        ambiguous: bool,
    ) -> Result<(), TableError> {
        let table = self.name.clone();
        match error::cancelled(reasons) {
            Cancelled::ForNow(_) if !ambiguous && tries.again(Kind::Transient).await => Ok(()),
            Cancelled::ForNow(reason) => Err(TableError::Unavailable { table, reason, ambiguous }),
            Cancelled::Invalid(reason) => Err(TableError::Invalid { table, reason }),
            Cancelled::Conditions(failed) => Err(TableError::ConditionFailed { table, keys: Vec::new(), failed }),
        }
    }

    async fn query_page(&self, query: &Query, limit: usize) -> Result<Page, TableError> {
        let text = |text: &String| AttributeValue::S(text.clone());
        let mut condition = "pk = :pk AND sk BETWEEN :from AND :to";
        let mut values = HashMap::from([(":pk".to_owned(), text(&query.pk)), (":to".to_owned(), text(&query.to))]);
        // No key is empty, and none may be compared with what is.
        match query.from.is_empty() {
            true => condition = "pk = :pk AND sk <= :to",
            false => _ = values.insert(":from".into(), text(&query.from)),
        }
        let start = start_key(query).map(|after| key_attributes(&Key::new(&query.pk, after)));
        let attempts = Attempts::default();
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .scan_index_forward(!query.descending)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        let answer = request.customize().interceptor(attempts.clone()).send().await;
        let answer = answer.map_err(|error| error::failed(&self.name, &error, &attempts, false))?;
        let next = match answer.last_evaluated_key.unwrap_or_default().remove("sk") {
            Some(AttributeValue::S(sk)) => Some(sk),
            _ => None,
        };
        let rows = answer.items.unwrap_or_default().into_iter().map(|attributes| self.row(&query.pk, attributes));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, next })
    }

    /// A row of a page: DynamoDB gives no item without its keys.
    fn row(&self, pk: &str, attributes: Attributes) -> Result<Result<Item, BadRow>, TableError> {
        let Some(AttributeValue::S(sk)) = attributes.get("sk") else {
            return Err(self.corrupt(format!("an item of {pk} has no text `sk`")));
        };
        let key = Key::new(pk, sk);
        Ok(self.item(attributes).map_err(|error| BadRow { key, error }))
    }

    /// One write whatever is there.
    async fn write_alone(&self, write: &Write) -> Result<(), TableError> {
        let (attempts, key) = (Attempts::default(), Some(key_attributes(&write.key)));
        let failed = |failed| Err(failed);
        match &write.action {
            Action::Check => Ok(()),
            Action::Delete => {
                let request = self.client.delete_item().table_name(&self.table).set_key(key);
                let answer = request.customize().interceptor(attempts.clone()).send().await;
                answer.map(drop).or_else(|error| failed(error::failed(&self.name, &error, &attempts, true)))
            }
            Action::Put { document, bytes } => {
                let Expression { update, names, values, .. } =
                    Expression::update(Condition::Any, document, bytes.as_ref());
                let request = self.client.update_item().table_name(&self.table).set_key(key);
                let request = request.set_update_expression(update).set_expression_attribute_names(names);
                let request = request.set_expression_attribute_values(values);
                let answer = request.customize().interceptor(attempts.clone()).send().await;
                answer.map(drop).or_else(|error| failed(error::failed(&self.name, &error, &attempts, true)))
            }
        }
    }

    /// All the writes or none. One that did not happen is tried again with another token: DynamoDB keeps a
    /// token for what happened.
    async fn write_together(&self, writes: &[&Write]) -> Result<(), TableError> {
        let mut tries = retry::Attempts::default();
        loop {
            let actions = writes.iter().map(|write| item::action(&self.table, write)).collect::<Result<_, _>>();
            let attempts = Attempts::default();
            let request = self
                .client
                .transact_write_items()
                .set_transact_items(Some(actions.map_err(|error| self.unbuildable(error))?))
                .client_request_token(uuid::Uuid::new_v4().to_string());
            let Err(error) = request.customize().interceptor(attempts.clone()).send().await else { return Ok(()) };
            match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    self.settle(cancelled.cancellation_reasons(), &mut tries, attempts.ambiguous()).await?;
                }
                _ => return Err(error::failed(&self.name, &error, &attempts, true)),
            }
        }
    }
}

/// What DynamoDB is to start behind. It takes no key from outside the range, where nothing is left out.
fn start_key(query: &Query) -> Option<&String> {
    let inside = |after: &&String| if query.descending { **after <= query.to } else { **after >= query.from };
    query.after.as_ref().filter(inside)
}

/// Whether no key can be in the range, behind where it goes on.
fn is_empty(query: &Query) -> bool {
    let behind = |after: &String| if query.descending { *after <= query.from } else { *after >= query.to };
    query.from > query.to || query.after.as_ref().is_some_and(behind)
}

#[async_trait]
impl Table for DynamoTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        limits::check_get(&self.name, keys)?;
        // DynamoDB takes no key twice.
        let mut places: HashMap<&Key, usize> = HashMap::with_capacity(keys.len());
        let mut wanted: Vec<&Key> = Vec::with_capacity(keys.len());
        for key in keys {
            places.entry(key).or_insert_with(|| {
                wanted.push(key);
                wanted.len() - 1
            });
        }
        let found = match wanted.as_slice() {
            [] => Vec::new(),
            [key] => vec![self.get_one(key).await?],
            keys => self.get_together(keys).await?,
        };
        if found.len() != wanted.len() {
            return Err(self.corrupt(format!("{} answers to {} reads", found.len(), wanted.len())));
        }
        Ok(keys.iter().map(|key| places.get(key).and_then(|place| found.get(*place)?.clone())).collect())
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        let limit = limits::check_query(&self.name, query)?;
        if is_empty(query) {
            return Ok(Page::default());
        }
        self.query_page(query, limit).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let writes = limits::check_transaction(&self.name, writes)?;
        let writes: Vec<&Write> = writes.iter().map(|checked| &checked.write).collect();
        // A check of nothing is none; DynamoDB does not take it.
        let says = |write: &Write| write.action != Action::Check || write.condition != Condition::Any;
        let saying: Vec<&Write> = writes.iter().copied().filter(|write| says(write)).collect();
        let result = match saying.as_slice() {
            [] => Ok(()),
            [write] if write.condition == Condition::Any => self.write_alone(write).await,
            saying => self.write_together(saying).await,
        };
        result.map_err(|error| match error {
            TableError::ConditionFailed { table, failed, .. } => {
                let mut failed = failed.into_iter();
                let failed = writes.iter().map(|write| says(write) && failed.next().unwrap_or(false)).collect();
                let keys = writes.iter().map(|write| write.key.clone()).collect();
                TableError::ConditionFailed { table, keys, failed }
            }
            error => error,
        })
    }
}
