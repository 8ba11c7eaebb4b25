//! The table on DynamoDB, with the string keys `pk` (partition) and `sk` (sort). Works in any billing mode.
//!
//! All reads are strongly consistent. Conditional writes are transactions with a client request token, so that a retry
//! recognises an attempt that was committed without an answer. A single unconditional write is idempotent and therefore
//! a plain request at half the price.

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
use crate::aws::attempts::CountAttempts;
use crate::aws::failure::Attempts;
use crate::aws::{CONNECT_TIMEOUT, READ_TIMEOUT};
use error::Cancelled;
use gitferry_base::Kind;
use gitferry_base::retry;
use item::{Attributes, Expression, key_attributes};

/// Limit for one attempt at a request. DynamoDB answers most within 10 ms.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for a request with all its attempts.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Client of a DynamoDB table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    table: String,
    name: String,
}

impl DynamoTable {
    /// Creates a client of the table `table` without sending a request. `region` is gitferry's region name, for
    /// messages.
    pub fn open(config: &SdkConfig, table: &str, region: &str) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT);
        let config = aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts.build());
        DynamoTable::with_client(Client::from_conf(config.interceptor(CountAttempts).build()), table, region)
    }

    /// Like [`DynamoTable::open`], with a configured SDK client.
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

    /// Reads distinct keys from one snapshot with `TransactGetItems`.
    async fn get_transaction(&self, keys: &[&Key]) -> Result<Vec<Option<Item>>, TableError> {
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
                    if found.len() != keys.len() {
                        let reason = format!("DynamoDB answered {} of {} keys", found.len(), keys.len());
                        return Err(TableError::Unavailable { table: self.name.clone(), reason, ambiguous: false });
                    }
                    return found.into_iter().map(|r| r.item.map(|item| self.item(item)).transpose()).collect();
                }
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(TransactGetItemsError::TransactionCanceledException(cancelled)) => {
                    self.backoff_or_fail(cancelled.cancellation_reasons(), &mut tries, false).await?;
                }
                _ => return Err(error::failed(&self.name, &error, &attempts, false)),
            }
        }
    }

    /// Handles a cancelled transaction: waits and returns `Ok` if the caller should retry with a new token. While an
    /// earlier attempt may still commit (`ambiguous`), a new token could apply the transaction twice, so there is no
    /// retry.
    async fn backoff_or_fail(
        &self,
        reasons: &[CancellationReason],
        tries: &mut retry::Attempts,
        ambiguous: bool,
    ) -> Result<(), TableError> {
        let table = self.name.clone();
        match error::cancelled(reasons) {
            Cancelled::Transient(_) if !ambiguous && tries.again(Kind::Transient).await => Ok(()),
            Cancelled::Transient(reason) => Err(TableError::Unavailable { table, reason, ambiguous }),
            Cancelled::Invalid(reason) => Err(TableError::Invalid { table, reason }),
            Cancelled::Conditions(failed) => Err(TableError::ConditionFailed { table, keys: Vec::new(), failed }),
        }
    }

    async fn query_page(&self, query: &Query, limit: usize) -> Result<Page, TableError> {
        let text = |text: &String| AttributeValue::S(text.clone());
        let mut condition = "pk = :pk AND sk BETWEEN :from AND :to";
        let mut values = HashMap::from([(":pk".to_owned(), text(&query.pk)), (":to".to_owned(), text(&query.to))]);
        // DynamoDB refuses an empty string in a key condition.
        if query.from.is_empty() {
            condition = "pk = :pk AND sk <= :to";
        } else {
            values.insert(":from".into(), text(&query.from));
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
        let next = match answer.last_evaluated_key.map(|mut key| key.remove("sk")) {
            None => None,
            Some(Some(AttributeValue::S(sk))) => Some(sk),
            // Without the rest, what the caller does not see would count as absent.
            Some(_) => return Err(self.corrupt(format!("a page of {} ends with a key without a text `sk`", query.pk))),
        };
        let rows = answer.items.unwrap_or_default().into_iter().map(|attributes| self.row(&query.pk, attributes));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, next })
    }

    /// Converts a row of a page. DynamoDB returns no item without its keys.
    fn row(&self, pk: &str, attributes: Attributes) -> Result<Result<Item, BadRow>, TableError> {
        let Some(AttributeValue::S(sk)) = attributes.get("sk") else {
            return Err(self.corrupt(format!("an item of {pk} has no text `sk`")));
        };
        let key = Key::new(pk, sk);
        Ok(self.item(attributes).map_err(|error| BadRow { key, error }))
    }

    /// Applies one unconditional write as a plain request.
    async fn write_single(&self, write: &Write) -> Result<(), TableError> {
        let attempts = Attempts::default();
        let key = Some(key_attributes(&write.key));
        match &write.action {
            Action::Check => Ok(()),
            Action::Delete => {
                let request = self.client.delete_item().table_name(&self.table).set_key(key);
                let answer = request.customize().interceptor(attempts.clone()).send().await;
                answer.map(drop).map_err(|error| error::failed(&self.name, &error, &attempts, true))
            }
            Action::Put { document, bytes } => {
                let Expression { update, names, values, .. } =
                    Expression::update(Condition::Any, document, bytes.as_ref());
                let request = self.client.update_item().table_name(&self.table).set_key(key);
                let request = request.set_update_expression(update).set_expression_attribute_names(names);
                let request = request.set_expression_attribute_values(values);
                let answer = request.customize().interceptor(attempts.clone()).send().await;
                answer.map(drop).map_err(|error| error::failed(&self.name, &error, &attempts, true))
            }
        }
    }

    /// Applies all writes or none with `TransactWriteItems`. A cancelled transaction is retried with a new token, as
    /// DynamoDB remembers the outcome of a token.
    async fn write_transaction(&self, writes: &[&Write]) -> Result<(), TableError> {
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
                    self.backoff_or_fail(cancelled.cancellation_reasons(), &mut tries, attempts.ambiguous()).await?;
                }
                _ => return Err(error::failed(&self.name, &error, &attempts, true)),
            }
        }
    }
}

/// Exclusive start key of a query. DynamoDB refuses a key outside the range; such a key excludes no item anyway.
fn start_key(query: &Query) -> Option<&String> {
    let inside = |after: &&String| if query.descending { **after <= query.to } else { **after >= query.from };
    query.after.as_ref().filter(inside)
}

/// Returns true if no key can be in the range after `query.after`.
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
        // DynamoDB refuses duplicate keys.
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
            keys => self.get_transaction(keys).await?,
        };
        if found.len() != wanted.len() {
            return Err(self.corrupt(format!("DynamoDB returned {} items for {} keys", found.len(), wanted.len())));
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
        // DynamoDB refuses a check without a condition, which has no effect.
        let is_effective = |write: &Write| write.action != Action::Check || write.condition != Condition::Any;
        let effective: Vec<&Write> = writes.iter().copied().filter(|write| is_effective(write)).collect();
        let result = match effective.as_slice() {
            [] => Ok(()),
            [write] if write.condition == Condition::Any => self.write_single(write).await,
            effective => self.write_transaction(effective).await,
        };
        result.map_err(|error| match error {
            TableError::ConditionFailed { table, failed, .. } => {
                let mut failed = failed.into_iter();
                let failed = writes.iter().map(|write| is_effective(write) && failed.next().unwrap_or(false)).collect();
                let keys = writes.iter().map(|write| write.key.clone()).collect();
                TableError::ConditionFailed { table, keys, failed }
            }
            error => error,
        })
    }
}
