// Starts an entry of agentca from any directory with whichever Node >= 18 is on the PATH. In an installed package it runs the compiled
// file; in a checkout the source, under the runtime that the checkout pins. CommonJS (see package.json beside this file), because
// Node 18 and 20 do not agree on what a module without an extension is.
'use strict'
const { spawn } = require('node:child_process')
const { existsSync, realpathSync } = require('node:fs')
const { enableCompileCache } = require('node:module')
const { join } = require('node:path')
const { pathToFileURL } = require('node:url')

const root = join(__dirname, '..')
const pinned = join(root, 'node_modules', 'node', 'bin', 'node')

/** Where the runtime keeps what it compiled, so that a command starts in a third of the time; as safe as the code beside it. */
const compileCache = join(root, 'node_modules', '.cache', 'agentca')

/**
 * Becomes the pinned runtime where Node can (22.15 and later); else runs it as a child and passes signals and the exit code on.
 * @param {string} command
 * @param {string[]} args
 * @param {number[]} descriptors that the program was given beside its standard streams; Node marks them to be closed, so that only a
 * child can be given them again
 */
const become = (command, args, descriptors) => {
  const env = { NODE_COMPILE_CACHE: compileCache, ...process.env }
  if (descriptors.length === 0 && typeof process.execve === 'function') process.execve(command, [command, ...args], env)
  const stdio = ['inherit', 'inherit', 'inherit']
  for (let fd = 3; fd <= Math.max(2, ...descriptors); fd++) stdio.push(descriptors.includes(fd) ? 'inherit' : 'ignore')
  const child = spawn(command, args, { stdio, env })
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'])
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the whole group: the child has it already.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    })
  child.on('error', error => fail('agentca', `cannot start ${command}: ${error.message}`))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

const fail = (name, message) => {
  process.stderr.write(`${name}: ${message}\n`)
  process.exit(2)
}

/**
 * @param {string} name of the program, for messages
 * @param {string} entry under src/ and dist/, without its extension
 * @param {number[]} descriptors file descriptors above 2 that the program reads
 */
exports.launch = (name, entry, descriptors = []) => {
  const source = join(root, 'src', `${entry}.ts`)
  const compiled = join(root, 'dist', `${entry}.js`)
  if (existsSync(source)) {
    if (!existsSync(pinned)) fail(name, `this checkout is not set up: run "npm start" or "npm test" in ${root} once`)
    if (realpathSync(process.execPath) !== realpathSync(pinned))
      become(pinned, [source, ...process.argv.slice(2)], descriptors)
    else {
      enableCompileCache(process.env.NODE_COMPILE_CACHE ?? compileCache)
      import(pathToFileURL(source).href)
    }
    return
  }
  if (!existsSync(compiled)) fail(name, `nothing to run in ${root}: run "npm run build" there, or install the package`)
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < 24 || (major === 24 && minor < 17))
    fail(name, `Node 24.17 or later is needed, this is ${process.versions.node}`)
  import(pathToFileURL(compiled).href)
}
