/**
 * The status of a solve, in the shape of BuildKit's `client.SolveStatus` (client/graph.go), which is also what
 * `--progress=rawjson` prints. Times are RFC 3339 strings; `data`, `short` and `detail` are base64.
 */
export interface SolveStatus {
  vertexes?: Vertex[];
  statuses?: VertexStatus[];
  logs?: VertexLog[];
  warnings?: VertexWarning[];
}

/** A step of a solve. It is sent again whenever it changes. */
export interface Vertex {
  digest: string;
  inputs?: string[];
  name: string;
  started?: string;
  completed?: string;
  cached?: boolean;
  error?: string;
  progressGroup?: { id: string; name?: string; weak?: boolean };
}

/** Progress of a part of a step, such as a layer's download. */
export interface VertexStatus {
  id: string;
  vertex: string;
  name?: string;
  total?: number;
  current: number;
  timestamp: string;
  started?: string;
  completed?: string;
}

/** A piece of a step's log. `stream` is 1 (stdout) or 2 (stderr). */
export interface VertexLog {
  vertex: string;
  stream?: number;
  data: string;
  timestamp: string;
}

/** A frontend's warning about a step. */
export interface VertexWarning {
  vertex: string;
  level?: number;
  short?: string;
  detail?: string[];
  url?: string;
  /** The file it is about; `data` is base64. */
  sourceInfo?: { filename?: string; data?: string; language?: string };
  range?: SourceRange[];
}

/** A part of a source file; lines count from 1. */
export interface SourceRange {
  start?: { line?: number; character?: number };
  end?: { line?: number; character?: number };
}

/** How many of a build's own steps there were; what BuildKit does for itself (`[internal] …`, exports) is left out. */
export interface StepCounts {
  total: number;
  cached: number;
  run: number;
}
