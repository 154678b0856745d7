// A static map that is only put into, above ordinary garbage. Arguments: seconds, MiB to lose.
import java.util.HashMap;
import java.util.Map;
import java.util.Random;

class LeakMap {
    static final Map<Long, byte[]> seen = new HashMap<>();

    public static void main(String[] args) throws Exception {
        double perSecond = Double.parseDouble(args[1]) * 1048576 / Double.parseDouble(args[0]);
        Random random = new Random(1);
        double owed = 0;
        long last = System.nanoTime(), garbage = 0;
        for (long key = 0;; ) {
            long now = System.nanoTime();
            owed += (now - last) / 1e9 * perSecond;
            last = now;
            while (owed > 0) {
                byte[] value = new byte[200 + random.nextInt(4000)];
                seen.put(key++, value);
                owed -= value.length + 80;
            }
            for (int i = 0; i < 40; i++) garbage += new byte[20000].length;
            Thread.sleep(50);
        }
    }
}
