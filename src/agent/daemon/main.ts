// The process around the daemon's command line. bin/agentca-agent starts it under the pinned runtime.
import { runCommandLine } from './command-line.ts'

// `agentca-agent status | head` closes the pipe early: that is the reader's choice and no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await runCommandLine(process.argv.slice(2), {
  out: text => void process.stdout.write(text),
  err: text => void process.stderr.write(text),
  env: process.env,
  cwd: process.cwd(),
})
