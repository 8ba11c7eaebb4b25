//! What S3 calls a request: its protocol has no name for it.

/// The operation of a request by method and path with query; `copies`: it names an object to copy from.
pub fn of_s3(method: &str, uri: &str, copies: bool) -> Option<&'static str> {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    Some(match method {
        "PUT" if copies && has("uploadId") => "UploadPartCopy",
        "PUT" if copies => "CopyObject",
        "PUT" if has("uploadId") => "UploadPart",
        "PUT" => "PutObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "GET" if has("uploadId") => "ListParts",
        "GET" if has("uploads") => "ListMultipartUploads",
        "GET" if has("list-type") => "ListObjectsV2",
        "GET" => "GetObject",
        "HEAD" => "HeadObject",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        _ => return None,
    })
}
