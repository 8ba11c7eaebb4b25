// Decides on each case of a file of JSON lines by @cloud-copilot/iam-simulate, and prints one decision a line.
import fs from 'node:fs'
import { runSimulation, runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const named = (documents) => documents.map((policy, at) => ({ name: String(at), policy }))
const rank = { ExplicitlyDenied: 2, ImplicitlyDenied: 1, Allowed: 0 }
const worse = (left, right) => (rank[left] >= rank[right] ? left : right)
const nothing = { serviceControlPolicies: [], resourceControlPolicies: [] }

function permission({ identity, boundary, session, action, resource, context }) {
  const account = resource.split(':')[4] || '111111111111'
  const decide = (limits) =>
    runUnsafeSimulation(
      {
        ...nothing,
        request: {
          principal: `arn:aws:iam::${account}:user/ana`,
          action,
          resource: { resource, accountId: account },
          contextVariables: context
        },
        identityPolicies: named(identity),
        permissionBoundaryPolicies: limits.length ? named(limits) : undefined
      },
      {}
    )
  // The session policies limit as a boundary does; the function that skips the check of condition keys does not take them.
  return session.length ? worse(decide(boundary), decide(session)) : decide(boundary)
}

const all = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }

async function trust({ trust, principal, own, context }) {
  const simulated = await runSimulation(
    {
      ...nothing,
      request: {
        principal,
        action: 'sts:AssumeRole',
        resource: { resource: 'arn:aws:iam::111111111111:role/target', accountId: '111111111111' },
        contextVariables: context
      },
      identityPolicies: own ? named([all]) : [],
      resourcePolicy: trust
    },
    {}
  )
  if (!simulated.overallResult) throw new Error(JSON.stringify(simulated))
  return simulated.overallResult
}

const lines = fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')
for (const line of lines) {
  const one = JSON.parse(line)
  console.log(one.trust ? await trust(one) : permission(one))
}
