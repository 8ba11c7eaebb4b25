#!/bin/bash
# What infra/ makes at AWS, as far as LocalStack needs it. Runs when LocalStack is ready.
set -euo pipefail

region() { # AWS region
  awslocal --region "$1" s3api create-bucket --bucket "gitferry-$1" \
    $([ "$1" = us-east-1 ] || echo --create-bucket-configuration "LocationConstraint=$1")
  awslocal --region "$1" dynamodb create-table --table-name "gitferry-$1" --billing-mode PAY_PER_REQUEST \
    --attribute-definitions AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=S \
    --key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE
  awslocal --region "$1" dynamodb update-time-to-live --table-name "gitferry-$1" \
    --time-to-live-specification Enabled=true,AttributeName=expires
  awslocal --region "$1" events create-event-bus --name gitferry
}
region us-east-1
region eu-west-1

# The source's bus → rule → queue.
awslocal --region us-east-1 sqs create-queue --queue-name gitferry-dr-dead-letters
awslocal --region us-east-1 sqs create-queue --queue-name gitferry-dr
awslocal --region us-east-1 events put-rule --name gitferry-dr --event-bus-name gitferry --event-pattern \
  '{"source":["gitferry","aws.codecommit"],"detail-type":["CodeCommit Repository State Change"]}'
awslocal --region us-east-1 events put-targets --rule gitferry-dr --event-bus-name gitferry \
  --targets 'Id=queue,Arn=arn:aws:sqs:us-east-1:000000000000:gitferry-dr'
