"""How parts are proven: closed-form teachers and the conformance kit. Imports nothing: every pytest run loads it."""
