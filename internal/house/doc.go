// Package house has no code, only tests that hold the rules of the house: every
// package and every exported name is documented, imports go in one direction,
// and docs/events.md is complete.
package house
