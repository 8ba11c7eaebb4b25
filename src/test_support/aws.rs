//! The AWS services that tests use: an emulator on this machine, or what `GITFERRY_TEST_AWS_ENDPOINT` names.
//!
//! The emulator starts once per test process, on a free port, and ends with it. It lives in a Python
//! environment below `target/`, made when it is first needed; that needs Python 3 and access to PyPI.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use aws_sdk_sqs::types::QueueAttributeName;
use gitferry_config::AwsConfig;

/// The emulator, as PyPI knows it.
const PACKAGE: &str = "ministack";
const VERSION: &str = "1.5.33";
/// How long it may take to answer (it takes well under a second on a machine that is not busy).
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Most ports that are tried: another process may take one that was free.
const STARTS: u32 = 5;
/// Names services to be used instead of the emulator.
pub const ENDPOINT_VARIABLE: &str = "GITFERRY_TEST_AWS_ENDPOINT";
/// The AWS region of all tests.
pub const REGION: &str = "us-east-1";
/// Credentials that no account has.
const ACCESS_KEY: &str = "test";
const SECRET_KEY: &str = "test";

static EMULATOR: OnceLock<Emulator> = OnceLock::new();

/// The services. [`Emulator::get`] starts what has to be started.
pub struct Emulator {
    endpoint: String,
    /// The emulator ends when this closes; a process that dies closes it too.
    _alive: Option<Child>,
}

impl Emulator {
    /// The one of this process.
    pub fn get() -> &'static Emulator {
        EMULATOR.get_or_init(|| match std::env::var(ENDPOINT_VARIABLE) {
            Ok(endpoint) if !endpoint.is_empty() => Emulator { endpoint, _alive: None },
            _ => Emulator::start(),
        })
    }

    /// Uses these services, whatever the environment says, when nothing has been started yet.
    pub fn use_services(endpoint: String) {
        EMULATOR.get_or_init(|| Emulator { endpoint, _alive: None });
    }

    /// The process below which the emulator runs.
    pub fn process(&self) -> Option<u32> {
        self._alive.as_ref().map(Child::id)
    }

    /// The URL of all services.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How a configuration names it.
    pub fn aws_config(&self) -> AwsConfig {
        AwsConfig { region: Some(REGION.into()), endpoint_url: Some(self.endpoint.clone()), ..AwsConfig::default() }
    }

    /// The same, as it stands in `[regions.X]`.
    pub fn aws_toml(&self) -> String {
        format!("aws = {{ region = \"{REGION}\", endpoint_url = \"{}\" }}\n", self.endpoint)
    }

    /// The SDK's configuration, made as gitferry makes it, with credentials for tests.
    pub async fn sdk_config(&self) -> SdkConfig {
        let config = gitferry_store::aws::sdk_config(&self.aws_config()).await;
        if self.has_own_credentials() {
            return config;
        }
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
        config.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build()
    }

    /// The same in another account: emulators take a key of twelve digits for its number.
    pub async fn sdk_config_in(&self, account: &str) -> SdkConfig {
        assert!(!self.has_own_credentials(), "these are services with real accounts");
        let credentials = Credentials::new(account, SECRET_KEY, None, None, "tests");
        let config = gitferry_store::aws::sdk_config(&self.aws_config()).await;
        config.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build()
    }

    /// What a process started by a test has to have in its environment.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        if self.has_own_credentials() {
            return Vec::new();
        }
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// Returns true if the services are real ones, with credentials from the environment.
    pub fn has_own_credentials(&self) -> bool {
        let given = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|name| std::env::var_os(name).is_some());
        self._alive.is_none() && given
    }

    /// A new table, made as `infra/` makes it; its name.
    pub async fn table(&self) -> String {
        Emulator::table_with(&self.sdk_config().await).await
    }

    /// The same by somebody else.
    pub async fn table_with(config: &SdkConfig) -> String {
        let client = aws_sdk_dynamodb::Client::new(config);
        let name = fresh("table");
        let key = |name: &str, of: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(of).build();
        let text = |name: &str| {
            let of = ScalarAttributeType::S;
            AttributeDefinition::builder().attribute_name(name).attribute_type(of).build().unwrap()
        };
        client
            .create_table()
            .table_name(&name)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(text("pk"))
            .attribute_definitions(text("sk"))
            .key_schema(key("pk", KeyType::Hash).unwrap())
            .key_schema(key("sk", KeyType::Range).unwrap())
            .send()
            .await
            .unwrap();
        loop {
            let found = client.describe_table().table_name(&name).send().await.unwrap();
            match found.table.and_then(|table| table.table_status) {
                Some(TableStatus::Creating) => tokio::time::sleep(Duration::from_millis(200)).await,
                Some(TableStatus::Active) => return name,
                status => panic!("the table {name} is {status:?}"),
            }
        }
    }

    /// A new bucket; its name.
    pub async fn bucket(&self) -> String {
        Emulator::bucket_with(&self.sdk_config().await).await
    }

    /// The same by somebody else.
    pub async fn bucket_with(config: &SdkConfig) -> String {
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(true).build();
        let name = fresh("bucket");
        aws_sdk_s3::Client::from_conf(config).create_bucket().bucket(&name).send().await.unwrap();
        name
    }

    /// A new queue; its URL.
    pub async fn queue(&self) -> String {
        self.queue_with(&[]).await
    }

    /// A new queue with some attributes; its URL.
    pub async fn queue_with(&self, attributes: &[(QueueAttributeName, String)]) -> String {
        let client = aws_sdk_sqs::Client::new(&self.sdk_config().await);
        let attributes = attributes.iter().cloned().collect();
        let request = client.create_queue().queue_name(fresh("queue")).set_attributes(Some(attributes));
        request.send().await.unwrap().queue_url.unwrap()
    }

    fn start() -> Emulator {
        let hint = format!("or name a running emulator with {ENDPOINT_VARIABLE}=http://HOST:PORT");
        let python = crate::python::environment(PACKAGE, VERSION, &hint);
        for _ in 0..STARTS {
            let port = free_port();
            let log = crate::paths::tmp().join(format!("{PACKAGE}-{port}.log"));
            let mut child = spawn(&python, port, &log);
            if wait_until_ready(&mut child, port) {
                return Emulator { endpoint: format!("http://127.0.0.1:{port}"), _alive: Some(child) };
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(said.contains("in use"), "the AWS emulator ended: {} says\n{said}", log.display());
        }
        panic!("no free port for the AWS emulator in {STARTS} attempts");
    }
}

/// A name that nothing else has.
pub fn fresh(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("gitferry-test-{prefix}-{}-{number}", uuid::Uuid::new_v4().simple())
}

/// Starts the emulator below a shell that ends it when this process closes its input, however it ends.
fn spawn(python: &Path, port: u16, log: &Path) -> Child {
    const SUPERVISE: &str = r#"exec 3<&0; "$0" -c "$1" 3<&- & pid=$!; (read -r _ <&3; kill $pid) & exec 3<&-
        wait $pid; rm -rf "$TMPDIR""#;
    // It holds the text of a transaction, Base64 and all, to the 4 MB that DynamoDB means for its items.
    const RUN: &str = "import ministack.services.dynamodb as d; d._DDB_TXN_MAX_BYTES *= 2; \
                       from ministack.app import main; main()";
    // The code of functions is unpacked there.
    let temporary = log.with_extension("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let log = File::create(log).unwrap();
    Command::new("sh")
        .args(["-c", SUPERVISE])
        .arg(python)
        .arg(RUN)
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("LOG_LEVEL", "WARNING")
        .env("TMPDIR", temporary)
        .env("PERSIST_STATE", "0")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether the emulator answers; `false` when it has ended.
fn wait_until_ready(child: &mut Child, port: u16) -> bool {
    let start = Instant::now();
    while !is_ready(port) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(start.elapsed() < READY_WITHIN, "the AWS emulator did not get ready within {READY_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        stream.write_all(b"GET /_ministack/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
