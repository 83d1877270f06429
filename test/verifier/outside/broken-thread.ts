// A thread that cannot run.
throw new Error('nothing here works')
