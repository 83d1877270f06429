// What processes of ours say on their way up: lines of text, most of them lines of our own log.
import type { Log } from './log.ts'

/** Vendor libraries write to stderr as well: a line without an end must not grow. */
const maxLine = 65_536

export const readLines = (stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void => {
  let pending = ''
  stream?.setEncoding('utf8')
  stream?.on('data', (text: string) => {
    const lines = (pending + text).split('\n')
    pending = lines.pop()!.slice(0, maxLine)
    for (const line of lines) onLine(line)
  })
}

/** The process's log lines become ours; whatever else is printed is kept as text. @param whose `the signer process` */
export const followLog = (stream: NodeJS.ReadableStream | null, log: Log, whose: string): void =>
  readLines(stream, line => {
    try {
      const { level, time: _, msg, ...fields } = JSON.parse(line) as Record<string, unknown>
      const write = level === 'info' ? log.info : level === 'error' ? log.error : log.warn
      write.call(log, fields, String(msg))
    } catch {
      log.warn({ text: line.slice(0, 500) }, `output of ${whose}`)
    }
  })
