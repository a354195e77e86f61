# Make -j builds a project, then nothing, and after a change what depends on it; programs run.
. "${0%/*}/prelude.sh"

count=$((8 * ROUNDS)); for i in $(seq $count); do
  echo "#include \"common.h\"" >part$i.c; [ $((i % 2)) = 0 ] || echo "#include \"odd.h\"" >>part$i.c
  echo "int part$i(void) { return BASE * $i; }" >>part$i.c; echo "int part$i(void);" >>parts.h; calls="${calls:-0} + part$i()"
done
echo "#define BASE 1" >common.h; echo "#define ODD 1" >odd.h
printf '#include <stdio.h>\n#include "parts.h"\nint main(void) { printf("%%d\\n", %s); return 0; }\n' "$calls" >main.c
cat >Makefile <<'END'
OBJECTS := $(patsubst %.c,build/%.o,$(wildcard *.c))
CFLAGS := -O1 -MMD -MP
program: build/libparts.a build/main.o
	$(CC) -o $@ build/main.o -Lbuild -lparts
build/libparts.a: $(filter-out build/main.o,$(OBJECTS))
	$(AR) rcs $@ $^
build/%.o: %.c | build
	$(CC) $(CFLAGS) -c -o $@ $<
build:
	mkdir $@
-include $(OBJECTS:.o=.d)
END
make -s -j4; sum=$((count * (count + 1) / 2)); [ "$(./program)" = $sum ] || fail "the program is wrong"
make -q || fail "make wants to build again"; sed -i 's/BASE 1/BASE 3/' common.h; make -s -j4; [ "$(./program)" = $((3 * sum)) ] || fail "a change got lost"
echo "#define EVEN 1" >>odd.h; [ "$(make -n | grep -c -- ' -c ')" = $((count / 2)) ] || fail "other files than those that depend on it"; make -s -j4; make -q
cp -r . "$OUT/copy"; (cd "$OUT/copy" && rm -rf build program && make -s -j4 && cmp program "$OLDPWD/program"); cmp build/libparts.a <(cat build/libparts.a)
