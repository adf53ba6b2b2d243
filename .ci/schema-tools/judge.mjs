// Judges schemas and events by tools that the bridge and its tests do not use; .ci/schemas calls it.
//
//   judge.mjs schemas FILE...          each is a JSON Schema 2020-12 in ajv's strict mode, and its examples fit it
//   judge.mjs events SCHEMA FILE...    every line of the files is an event that the schema allows
//   judge.mjs asyncapi FILE            the document is AsyncAPI 3, with the schemas that it names
import { readFileSync } from 'node:fs';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

const DRAFT = 'application/schema+json;version=draft-2020-12';

const validators = () => addFormats(new Ajv2020({ strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false, allErrors: true }));
const read = (file) => JSON.parse(readFileSync(file, 'utf8'));
let faults = 0;
const fault = (where, what) => {
  faults += 1;
  console.error(`${where}: ${what}`);
};

function compiled(file) {
  try {
    return validators().compile(read(file));
  } catch (error) {
    fault(file, error.message);
    return () => true;
  }
}

// `examples` stand beside the type of a member, and each has to be of it.
function examples(file, schema, path) {
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    for (const example of member.examples ?? []) {
      const { $schema, $id, ...alone } = member;
      if (!validators().compile(alone)(example)) fault(file, `${path}${name}: its example ${JSON.stringify(example)} does not fit it`);
    }
  }
}

async function asyncapi(file) {
  const { Parser, fromFile } = await import('@asyncapi/parser');
  const parser = new Parser();
  // The parser knows the drafts that AsyncAPI names; of this one it is told here, and it is judged below.
  parser.registerSchemaParser({
    validate: () => [],
    parse: ({ data }) => data,
    getMimeTypes: () => [DRAFT],
  });
  const { document, diagnostics } = await fromFile(parser, file).parse();
  // 0 is an error, 1 a warning; hints about further documentation are none.
  for (const { severity, code, message, path } of diagnostics) {
    if (severity <= 1) fault(file, `${code} at ${path.join('.')}: ${message}`);
  }
  if (!document) return fault(file, 'cannot be read');
  for (const message of document.messages().all()) {
    const payload = message.payload()?.json();
    const { $id, ...schema } = payload?.schema ?? payload ?? {};
    if (!schema.properties) fault(file, `${message.id()} has no payload`);
    try {
      validators().compile(JSON.parse(JSON.stringify(schema, (key, value) => (key.startsWith('x-parser-') ? undefined : value))));
    } catch (error) {
      fault(file, `${message.id()}: ${error.message}`);
    }
    // The parser may find the reference and not the schema; then nothing would be judged.
    if (message.schemaFormat() !== DRAFT) fault(file, `${message.id()} is of ${message.schemaFormat()}`);
  }
  console.log(`${file}: ${document.messages().all().length} messages`);
}

const [task, ...files] = process.argv.slice(2);
if (task === 'schemas') {
  for (const file of files) {
    const schema = read(file);
    const valid = compiled(file);
    for (const example of schema.examples ?? []) {
      if (!valid(example)) fault(file, `its example does not fit it: ${JSON.stringify(valid.errors)}`);
    }
    examples(file, schema, '');
  }
} else if (task === 'events') {
  const valid = compiled(files[0]);
  let lines = 0;
  for (const file of files.slice(1)) {
    for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
      lines += 1;
      if (!valid(JSON.parse(line))) fault(file, `${line}: ${JSON.stringify(valid.errors)}`);
    }
  }
  if (lines === 0) fault(files[0], 'there is nothing to be judged');
  console.log(`${files[0]}: ${lines} events`);
} else if (task === 'asyncapi') {
  await asyncapi(files[0]);
} else {
  fault('judge.mjs', `what is ${task}?`);
}
process.exit(faults === 0 ? 0 : 1);
