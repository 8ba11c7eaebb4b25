//! Wire protocols: the query protocol of IAM and STS (forms in, XML out), and the answers of JSON APIs.

pub mod input;
pub mod parameters;
mod xml;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::service::Service;

/// Protocol that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `Action=…&Version=…`, answered in XML.
    Query,
    /// `X-Amz-Target` and JSON 1.1.
    Json,
}

/// Answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// Name of the principal for the log; `anonymous` without one.
    pub actor: String,
}

/// Media type of the query protocol's answers.
const XML: &str = "text/xml";
/// Media type of JSON APIs.
const JSON: &str = "application/x-amz-json-1.1";

impl Protocol {
    /// Answer to a request that succeeded, with the result of its operation; null for an operation without one.
    pub fn result(self, service: Service, action: &str, result: &Value, request_id: &str, actor: String) -> Answer {
        match self {
            Protocol::Json => {
                let body = if result.is_null() { String::new() } else { result.to_string() };
                Answer { status: 200, content_type: JSON, body, actor }
            }
            Protocol::Query => {
                let mut body = format!("<{action}Response xmlns=\"{}\">", service.namespace());
                xml::element(&mut body, &format!("{action}Result"), result);
                xml::element(&mut body, "ResponseMetadata", &json!({"RequestId": request_id}));
                body += &format!("</{action}Response>\n");
                Answer { status: 200, content_type: XML, body, actor }
            }
        }
    }

    /// Answer to a request that failed.
    pub fn error(self, service: Service, error: &ApiError, request_id: &str, actor: String) -> Answer {
        match self {
            Protocol::Json => {
                let (code, status) = error.in_json();
                let body = json!({"__type": code, "message": error.message()}).to_string();
                Answer { status, content_type: JSON, body, actor }
            }
            Protocol::Query => {
                let status = error.status();
                let kind = if error.is_fault() { "Receiver" } else { "Sender" };
                let mut body = format!("<ErrorResponse xmlns=\"{}\">", service.namespace());
                let error = json!({"Type": kind, "Code": error.code(), "Message": error.message()});
                xml::element(&mut body, "Error", &error);
                xml::element(&mut body, "RequestId", &request_id.into());
                body += "</ErrorResponse>\n";
                Answer { status, content_type: XML, body, actor }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_envelopes_of_aws() {
        let result = json!({"User": {"UserName": "a<b", "Tags": [{"Key": "k", "Value": ""}], "Path": null}});
        let answer = Protocol::Query.result(Service::Iam, "GetUser", &result, "id", "me".into());
        assert_eq!(
            answer.body,
            "<GetUserResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><GetUserResult><User>\
             <Tags><member><Key>k</Key><Value></Value></member></Tags><UserName>a&lt;b</UserName></User></GetUserResult>\
             <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetUserResponse>\n"
        );
        let answer = Protocol::Query.result(Service::Iam, "DeleteUser", &Value::Null, "id", "me".into());
        assert!(!answer.body.contains("Result"), "{}", answer.body);
        let error = ApiError::new("NoSuchEntity", 404, "\"x\" & y");
        let answer = Protocol::Query.error(Service::Sts, &error, "id", "me".into());
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (
                404,
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Code>NoSuchEntity</Code>\
                 <Message>&quot;x&quot; &amp; y</Message><Type>Sender</Type></Error><RequestId>id</RequestId></ErrorResponse>\n"
            )
        );
        let answer = Protocol::Json.error(Service::CodeCommit, &error, "id", "me".into());
        assert_eq!(answer.body, r#"{"__type":"NoSuchEntity","message":"\"x\" & y"}"#);
        let answer = Protocol::Json.error(Service::CodeCommit, &ApiError::denied("no"), "id", "me".into());
        assert_eq!((answer.status, answer.body.contains("\"AccessDeniedException\"")), (400, true));
        let answer = Protocol::Json.result(Service::CodeCommit, "CreateBranch", &Value::Null, "id", "me".into());
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
}
