package main

//go:generate go tool bpf2go -no-global-types -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I../internal/engine/ebpf/bpf -fdebug-prefix-map=/=" tutorial tutorial.bpf.c
