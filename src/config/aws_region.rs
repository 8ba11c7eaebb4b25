//! Services of AWS whose region the configuration has to name.

use gitferry_store::aws::AwsConfig;

/// Verifies that the settings of a service name its AWS region, or a profile that may. `AWS_REGION` of the process does
/// not count: another machine would reach other stores by the same file.
pub fn check_region(aws: &AwsConfig, service: &str) -> Result<(), String> {
    if aws.region.is_some() || aws.profile.is_some() {
        return Ok(());
    }
    Err(format!("{service} is in a region of AWS, which is missing: set region (or profile) in its `aws`"))
}
