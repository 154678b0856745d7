// Direct buffers that stay referenced: outside of the heap, so no heap dump shows their bytes.
// Arguments: seconds, MiB to lose.
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

class LeakDirect {
    static final List<ByteBuffer> kept = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        double perSecond = Double.parseDouble(args[1]) * 1048576 / Double.parseDouble(args[0]);
        Random random = new Random(1);
        double owed = 0;
        long last = System.nanoTime();
        for (;;) {
            long now = System.nanoTime();
            owed += (now - last) / 1e9 * perSecond;
            last = now;
            while (owed > 0) {
                ByteBuffer buffer = ByteBuffer.allocateDirect(16384 + random.nextInt(65536));
                while (buffer.hasRemaining()) buffer.put((byte) 1);
                kept.add(buffer);
                owed -= buffer.capacity();
            }
            Thread.sleep(100);
        }
    }
}
