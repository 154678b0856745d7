// Idle, load, idle and load again, with a bounded working set. Argument: seconds of one phase.
import java.util.Random;

class SteadyG1 {
    public static void main(String[] args) throws Exception {
        long phase = (long) (Double.parseDouble(args[0]) * 1000);
        byte[][] working = new byte[4000][];
        Random random = new Random(1);
        long begun = System.currentTimeMillis();
        for (;;) {
            boolean load = (System.currentTimeMillis() - begun) / phase % 2 == 1;
            for (int i = 0; i < (load ? 400 : 3); i++)
                working[random.nextInt(working.length)] = new byte[2000 + random.nextInt(30000)];
            Thread.sleep(50);
        }
    }
}
