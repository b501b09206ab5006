package inline

//go:generate clang -c --target=x86_64-linux-gnu -Wall -Werror asm/probe_amd64.S -o probe_amd64.o
