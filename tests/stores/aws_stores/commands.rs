//! The command on regions that are with AWS, as the configuration names them.

use gitferry_test_support::aws::{Emulator, REGION};
use gitferry_test_support::aws_region::AwsRegion;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

fn run(world: &World, args: &[&str]) -> Run {
    let mut command = world.command(args);
    command.envs(Emulator::get().environment());
    Run::of(command)
}

fn ok(world: &World, args: &[&str]) -> String {
    let run = run(world, args);
    assert!(run.status.success(), "gitferry {args:?}\n{}{}", run.stdout, run.stderr);
    run.stdout
}

/// One region on S3 and DynamoDB.
async fn remote(name: &str) -> String {
    AwsRegion::new(name).await.toml(Emulator::get().endpoint(), "")
}

fn link() -> String {
    format!("[links.{LINK}]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_crosses_from_aws_to_aws() {
    let world = World::with(&[], "");
    let text = remote(SOURCE).await + &remote(TARGET).await + &link();
    std::fs::write(world.path("gitferry.toml"), text).unwrap();
    crosses(&world);
}

/// Each store is chosen by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_crosses_between_all_kinds() {
    let emulator = Emulator::get();
    let world = World::with(&[], "");
    let (bucket, table) = (emulator.bucket().await, emulator.table().await);
    let text = format!(
        "[regions.{SOURCE}]\nobjects = \"s3://{bucket}\"\ntable = \"sqlite:us/table.db\"\n{aws}\
         [regions.{TARGET}]\nobjects = \"file:eu/objects\"\ntable = \"dynamodb://{table}\"\n{aws}{link}",
        aws = emulator.aws_toml(),
        link = link(),
    );
    std::fs::write(world.path("gitferry.toml"), text).unwrap();
    crosses(&world);
}

fn crosses(world: &World) {
    ok(world, &["region", "init"]);
    let source = GitRepo::init(world.path("source.git"), &[]);
    source.commit("main", "a", "first");
    ok(world, &["import", source.path.to_str().unwrap(), "app", "--region", SOURCE]);
    ok(world, &["replicate", LINK]);
    source.commit("main", "a", "second");
    ok(world, &["import", source.path.to_str().unwrap(), "app", "--region", SOURCE]);
    ok(world, &["replicate", LINK]);
    ok(world, &["verify", LINK, "--deep"]);
    let to = world.path("export.git");
    ok(world, &["export", "app", "--region", TARGET, "--to", to.to_str().unwrap()]);
    let export = GitRepo::at(to);
    assert_eq!((export.refs(), export.reachable()), (source.refs(), source.reachable()));
}

/// KMS keys by repository and region, as an operator sets and proves them.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_gets_a_kms_key_of_its_own() {
    let arn = |number: u32| format!("arn:aws:kms:{REGION}:000000000000:key/11111111-2222-3333-4444-{number:012}");
    let world = World::with(&[], "");
    let text = remote(SOURCE).await + &remote(TARGET).await + &link();
    std::fs::write(world.path("gitferry.toml"), text).unwrap();
    crosses(&world);
    let shown = |region: &str| -> serde_json::Value {
        serde_json::from_str(&ok(&world, &["repo", "show", "app", "--region", region, "--json"])).unwrap()
    };
    assert!(shown(SOURCE)["kms_key"].is_null());
    run(&world, &["repo", "reencrypt", "app", "--region", SOURCE]).says(&["it has no KMS key", "default encryption"]);
    let set = ok(&world, &["repo", "set-kms-key", "app", &arn(1), "--region", SOURCE]);
    assert!(set.contains("before the default encryption of the bucket"), "{set}");
    ok(&world, &["repo", "set-kms-key", "app", &arn(2), "--region", TARGET]);
    assert_eq!((&shown(SOURCE)["kms_key"], &shown(TARGET)["kms_key"]), (&arn(1).into(), &arn(2).into()));
    let verified = run(&world, &["verify", "app", "--region", SOURCE]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(verified.stdout.contains("is encrypted under") && verified.stdout.contains(&arn(1)), "{}", verified.stdout);
    verified.says(&["gitferry repo reencrypt app --region us-east-1"]);
    let counted = ok(&world, &["repo", "reencrypt", "app", "--region", SOURCE, "--dry-run"]);
    assert!(counted.starts_with("would encrypt 4 of 4 objects"), "{counted}");
    for region in [SOURCE, TARGET] {
        ok(&world, &["repo", "reencrypt", "app", "--region", region, "--json"]);
    }
    ok(&world, &["verify", LINK, "--deep"]);
    // What is delivered afterwards is under the target's key.
    let source = GitRepo::at(world.path("source.git"));
    source.commit("main", "a", "third");
    ok(&world, &["import", source.path.to_str().unwrap(), "app", "--region", SOURCE]);
    ok(&world, &["replicate", LINK]);
    ok(&world, &["verify", LINK]);
    ok(&world, &["repo", "set-kms-key", "app", "--default", "--region", SOURCE]);
    assert!(shown(SOURCE)["kms_key"].is_null());
    let elsewhere = arn(1).replace(REGION, "eu-central-1");
    run(&world, &["repo", "set-kms-key", "app", &elsewhere, "--region", SOURCE]).says(&["is a key of eu-central-1"]);
    run(&world, &["repo", "set-kms-key", "app", "alias/git", "--region", SOURCE]).says(&["is not of the form"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let emulator = Emulator::get();
    let world = World::with(&[], "");
    let (bucket, table, aws) = (emulator.bucket().await, emulator.table().await, emulator.aws_toml());
    let configure = |objects: &str, table: &str| {
        let text = format!("[regions.{SOURCE}]\nobjects = \"{objects}\"\ntable = \"{table}\"\n{aws}");
        std::fs::write(world.path("gitferry.toml"), text).unwrap();
        run(&world, &["repo", "create", "app", "--region", SOURCE])
    };
    let missing = configure(&format!("s3://{bucket}"), "dynamodb://no-such-table");
    assert_eq!(missing.status.code(), Some(3));
    missing.says(&["dynamodb://no-such-table", SOURCE, "there is no such table"]);
    let missing = configure("s3://no-such-bucket-at-all", &format!("dynamodb://{table}"));
    assert_eq!(missing.status.code(), Some(3));
    missing.says(&["no-such-bucket-at-all", SOURCE]);
    // Bucket and table are there, and no region is in them yet.
    let missing = configure(&format!("s3://{bucket}"), &format!("dynamodb://{table}"));
    assert_eq!(missing.status.code(), Some(2));
    missing.says(&["gitferry region init us-east-1"]);
    ok(&world, &["region", "init"]);
    assert!(configure(&format!("s3://{bucket}"), &format!("dynamodb://{table}")).status.success());
}

/// A process that is given nobody's credentials says so; it neither hangs nor guesses.
#[tokio::test(flavor = "multi_thread")]
async fn without_credentials() {
    let world = World::with(&[], "");
    std::fs::write(world.path("gitferry.toml"), remote(SOURCE).await).unwrap();
    let mut command = world.command(&["repo", "list", "--region", SOURCE]);
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"] {
        command.env_remove(variable);
    }
    command.env("HOME", world.path("nobody")).env("AWS_EC2_METADATA_DISABLED", "true");
    let run = Run::of(command);
    assert_eq!(run.status.code(), Some(3), "{}", run.stderr);
    run.says(&["dynamodb://", "credentials"]);
}

/// A role is assumed with the credentials of the chain, and what it gives signs the requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed() {
    let emulator = Emulator::get();
    let proxy = gitferry_test_support::proxy::Proxy::start(emulator.endpoint()).await;
    let world = World::with(&[], "");
    let table = emulator.table().await;
    let text = format!(
        "[regions.{SOURCE}]\nobjects = \"file:objects\"\ntable = \"dynamodb://{table}\"\n\
         aws = {{ region = \"{REGION}\", endpoint_url = \"{}\", role_arn = \"arn:aws:iam::000000000000:role/git\", \
         external_id = \"ext-1\" }}\n",
        proxy.endpoint
    );
    std::fs::write(world.path("gitferry.toml"), text).unwrap();
    ok(&world, &["region", "init"]);
    ok(&world, &["repo", "list", "--region", SOURCE]);
    let requests = proxy.requests();
    let assumed = requests.iter().find(|request| request.body.contains("Action=AssumeRole")).unwrap();
    assert!(assumed.body.contains("ExternalId=ext-1") && assumed.body.contains("RoleSessionName=gitferry"));
    assert!(requests.iter().any(|request| request.operation == "Query"));
}
