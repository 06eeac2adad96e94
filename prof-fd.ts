// ulimit -n is set by the caller: connects until nothing goes, then looks whether the gate lives.
import { connect } from 'node:net';
import { spawn } from 'node:child_process';
