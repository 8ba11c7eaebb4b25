//! A bucket and a table as files, and files as a bucket and a table.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_store::objects::Crc64;
use serde_json::{Map, Value, json};

use super::PREFIX;
use crate::aws::Emulator;
use crate::aws_region::AwsRegion;

async fn s3() -> aws_sdk_s3::Client {
    let config = Emulator::get().sdk_config().await;
    let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(config)
}

async fn dynamo() -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&Emulator::get().sdk_config().await)
}

/// All items of a table, in DynamoDB's JSON.
pub async fn items(region: &AwsRegion) -> Vec<Value> {
    let mut items = Vec::new();
    let mut after: Option<HashMap<String, AttributeValue>> = None;
    loop {
        let request = dynamo().await.scan().table_name(&region.table).set_exclusive_start_key(after);
        let page = request.send().await.unwrap();
        items.extend(page.items.unwrap_or_default().iter().map(members));
        after = page.last_evaluated_key;
        if after.is_none() {
            items.sort_by_key(|item| (item["pk"].to_string(), item["sk"].to_string()));
            return items;
        }
    }
}

fn members(attributes: &HashMap<String, AttributeValue>) -> Value {
    let sorted: BTreeMap<_, _> = attributes.iter().collect();
    sorted.into_iter().map(|(name, value)| (name.clone(), to_json(value))).collect::<Map<_, _>>().into()
}

fn to_json(attribute: &AttributeValue) -> Value {
    match attribute {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Bool(truth) => json!({ "BOOL": truth }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(to_json).collect::<Vec<_>>() }),
        AttributeValue::M(values) => json!({ "M": members(values) }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        other => panic!("gitferry stores no {other:?}"),
    }
}

fn from_json(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    let text = || value.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "B" => AttributeValue::B(Blob::new(STANDARD.decode(text()).unwrap())),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "NULL" => AttributeValue::Null(true),
        "L" => AttributeValue::L(value.as_array().unwrap().iter().map(from_json).collect()),
        "M" => AttributeValue::M(attributes(value)),
        "SS" => AttributeValue::Ss(value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().into()).collect()),
        other => panic!("no attribute has the type {other}"),
    }
}

fn attributes(members: &Value) -> HashMap<String, AttributeValue> {
    members.as_object().unwrap().iter().map(|(name, value)| (name.clone(), from_json(value))).collect()
}

/// Puts items into a table.
pub async fn put_items(region: &AwsRegion, items: &[Value]) {
    let client = dynamo().await;
    for item in items {
        client.put_item().table_name(&region.table).set_item(Some(attributes(item))).send().await.unwrap();
    }
}

/// Attributes of all objects of a bucket by key, which lacks the region's prefix. Their contents go into a folder.
pub async fn objects(region: &AwsRegion, folder: &Path) -> Vec<Value> {
    let client = s3().await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let request = client.list_objects_v2().bucket(&region.bucket).set_continuation_token(after);
        let page = request.send().await.unwrap();
        for object in page.contents() {
            let full = object.key().unwrap();
            let key = full.strip_prefix(PREFIX).and_then(|key| key.strip_prefix('/')).unwrap();
            let head = client.head_object().bucket(&region.bucket).key(full).checksum_mode(ChecksumMode::Enabled);
            let head = head.send().await.unwrap();
            let body = client.get_object().bucket(&region.bucket).key(full).send().await.unwrap();
            let bytes = body.body.collect().await.unwrap().into_bytes();
            let path = folder.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &bytes).unwrap();
            let metadata: BTreeMap<String, String> = head.metadata.into_iter().flatten().collect();
            found.push(json!({
                "key": key,
                "size": head.content_length,
                "crc64nvme": head.checksum_crc64_nvme,
                "checksum_type": head.checksum_type.map(|kind| kind.as_str().to_owned()),
                "content_type": head.content_type,
                "content_encoding": head.content_encoding,
                "storage_class": head.storage_class.map(|class| class.as_str().to_owned()),
                "metadata": metadata,
            }));
        }
        after = page.next_continuation_token;
        if after.is_none() {
            found.sort_by_key(|object| object["key"].to_string());
            return found;
        }
    }
}

/// CRC-64/NVME of some bytes, as S3 writes it.
fn base64_of(bytes: &[u8]) -> String {
    STANDARD.encode(Crc64::of(bytes).0.to_be_bytes())
}

/// Puts objects with their attributes into a bucket, from a folder.
pub async fn put_objects(region: &AwsRegion, objects: &[Value], folder: &Path) {
    let client = s3().await;
    for object in objects {
        let key = object["key"].as_str().unwrap();
        let metadata = object["metadata"].as_object().unwrap().iter();
        let metadata = metadata.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let body = std::fs::read(folder.join(key)).unwrap();
        // Computed: the emulator records of an upload in parts the checksum of their checksums.
        let crc64 = base64_of(&body);
        let request = client.put_object().bucket(&region.bucket).key(format!("{PREFIX}/{key}")).body(body.into());
        let request =
            request.checksum_crc64_nvme(crc64).set_content_type(object["content_type"].as_str().map(str::to_owned));
        request.set_metadata(Some(metadata)).send().await.unwrap();
    }
}

/// Multipart uploads of a bucket with their parts.
pub async fn uploads(region: &AwsRegion) -> Vec<Value> {
    let client = s3().await;
    let listed = client.list_multipart_uploads().bucket(&region.bucket).send().await.unwrap();
    let mut found = Vec::new();
    for upload in listed.uploads() {
        let full = upload.key().unwrap();
        let id = upload.upload_id().unwrap();
        let request = client.list_parts().bucket(&region.bucket).key(full).upload_id(id);
        let answer = request.send().await.unwrap();
        let parts = answer.parts().iter().map(|part| json!({ "number": part.part_number(), "size": part.size() }));
        let parts: Vec<Value> = parts.collect();
        found.push(json!({ "key": full[PREFIX.len() + 1..], "upload_id": id, "parts": parts }));
    }
    found
}

/// Begins an upload anew, with the parts that it had, of these bytes; its id.
pub async fn put_upload(region: &AwsRegion, upload: &Value, bytes: &[u8]) -> String {
    let client = s3().await;
    let key = format!("{PREFIX}/{}", upload["key"].as_str().unwrap());
    let request = client.create_multipart_upload().bucket(&region.bucket).key(&key);
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
    let id = request.send().await.unwrap().upload_id.unwrap();
    let mut at = 0;
    for part in upload["parts"].as_array().unwrap() {
        let size = usize::try_from(part["size"].as_u64().unwrap()).unwrap();
        let bytes = bytes[at..at + size].to_vec();
        at += size;
        let crc64 = base64_of(&bytes);
        let request = client.upload_part().bucket(&region.bucket).key(&key).upload_id(&id);
        let request = request.part_number(i32::try_from(part["number"].as_i64().unwrap()).unwrap());
        request.checksum_crc64_nvme(crc64).body(bytes.into()).send().await.unwrap();
    }
    id
}
