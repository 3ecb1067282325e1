// Package handlers is the Functions app: one file per function, named as the
// function. It reads what the host sends, calls reconcile or the ledger, and
// answers as the host wants it. It must never decide anything, and it keeps no
// state between calls: the host kills the process without a word.
package handlers
