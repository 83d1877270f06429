// A process that works in a credential directory until it is killed. Says `ready` when it holds the lock, `refused CODE` when it
// does not get it; then writes generation after generation, or only holds.
import { openCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { madeCredential } from './made-credential.ts'

const [directory, work] = process.argv.slice(2) as [string, 'write' | 'hold']

try {
  const opened = await openCredentialDirectory(directory)
  const first = (await opened.load())?.facts.generation ?? 0
  process.stdout.write('ready\n')
  if (work === 'hold') await new Promise(resolve => process.stdin.once('data', resolve))
  else
    for (let generation = first + 1; ; generation++) {
      const credential = madeCredential(generation)
      await opened.keepPending({ purpose: `after ${generation}`, keys: [credential.privateKey] })
      await opened.save(credential)
      process.stdout.write(`${generation}\n`)
    }
  await opened[Symbol.asyncDispose]()
} catch (error) {
  process.stdout.write(`refused ${(error as { code?: string }).code}\n`)
}
process.exit()
