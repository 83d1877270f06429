// The thread that makes calls, and one thing more: it ends when it is asked to call a path named `/die`.
import { parentPort } from 'node:worker_threads'
import '../../../src/verifier/outside/calls-thread.ts'

parentPort?.on('message', ({ url }: { readonly url?: string }) => {
  if (url?.endsWith('/die')) process.exit(7)
})
