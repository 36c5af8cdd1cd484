// Ask iam-simulate, which implements IAM's evaluation of policies, about requests that nobody makes.
//
//     node rights_simulate.mjs <asked.json >answers.json
//
// asked: [{policy, action, resource, context}]; answers: one word for each: Allowed, ImplicitlyDenied, or an error.
// IAM_SIMULATE is the folder that npm has installed it in. Called by: test_rights_simulated.py.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.env.IAM_SIMULATE + '/')
const { runSimulation } = await import(pathToFileURL(require.resolve('@cloud-copilot/iam-simulate')))
const account = '123456789012'

const answers = []
for (const { policy, action, resource, context } of JSON.parse(readFileSync(0, 'utf8'))) {
  const told = await runSimulation(
    {
      identityPolicies: [{ name: 'rights', policy }],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      request: {
        action,
        principal: `arn:aws:iam::${account}:user/somebody`,
        resource: { resource, accountId: account },
        contextVariables: context,
      },
    },
    {},
  )
  answers.push(told.overallResult ?? `error: ${JSON.stringify(told.errors)}`)
}
process.stdout.write(JSON.stringify(answers))
