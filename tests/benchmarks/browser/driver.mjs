// Runs one exported function of a module on JSON from standard input: {module, call, arguments}; arrays of numbers may
// come as {dtype, base64} and go back the same way.
import { readFileSync } from 'node:fs';

const TYPES = { float32: Float32Array, uint8: Uint8Array };
const decode = (_, value) => {
  if (!value || typeof value !== 'object' || !('base64' in value)) return value;
  const bytes = Uint8Array.from(Buffer.from(value.base64, 'base64'));
  return new TYPES[value.dtype](bytes.buffer);
};
const encode = (_, value) => {
  if (!ArrayBuffer.isView(value)) return value;
  const dtype = Object.keys(TYPES).find((name) => value instanceof TYPES[name]);
  return { dtype, base64: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') };
};
const request = JSON.parse(readFileSync(0, 'utf8'), decode);
const module = await import(request.module);
process.stdout.write(JSON.stringify(await module[request.call](...request.arguments), encode));
